# The image of the operator and of the command line: one static binary and nothing else.
#
#   docker build -t adieu .

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# A target that is named, even the host's own, keeps the flags away from build scripts and macros, which
# can't be linked statically.
RUN host="$(rustc -vV | sed -n 's/^host: //p')" \
    && RUSTFLAGS="-C target-feature=+crt-static" \
       cargo build --release --locked --bin adieu --target "$host" \
    && cp "target/$host/release/adieu" /adieu

FROM scratch
COPY --from=build /adieu /adieu
USER 65532:65532
ENTRYPOINT ["/adieu"]
