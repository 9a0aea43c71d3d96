# The image of the operator and of the command line: one static binary and nothing else.
#
#   docker build -t adieu .
#
# The caches of the build keep downloaded and compiled crates, so that a change of the sources compiles only adieu.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# A target that is named, even the host's own, keeps the flags away from build scripts and macros, which
# can't be linked statically.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    host="$(rustc -vV | sed -n 's/^host: //p')" \
    && RUSTFLAGS="-C target-feature=+crt-static" \
       cargo build --release --locked --bin adieu --target "$host" \
    && cp "target/$host/release/adieu" /adieu

FROM scratch
LABEL org.opencontainers.image.title="adieu" \
      org.opencontainers.image.description="Makes Kubernetes workloads terminate gracefully" \
      org.opencontainers.image.url="https://github.com/adieu-dev/adieu" \
      org.opencontainers.image.source="https://github.com/adieu-dev/adieu" \
      org.opencontainers.image.documentation="https://github.com/adieu-dev/adieu/blob/main/README.md" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /adieu /adieu
USER 65532:65532
ENTRYPOINT ["/adieu"]
