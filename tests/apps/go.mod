module adieu.dev/tests/apps

go 1.26.0
