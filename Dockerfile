# pg_mire in the official PostgreSQL image: that image plus one library, one control file, one script.
#
#   docker build -t pg_mire .        or, with a smoke test: cargo xtask image

FROM rust:1.95-trixie AS build
# The distribution's own headers; a minor version more or less than the base image's does not matter.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libclang-dev postgresql-server-dev-17 \
    && rm -rf /var/lib/apt/lists/*
# The bindings' generator wants rustfmt, which the slim toolchain of the base image leaves out.
RUN command -v rustfmt >/dev/null || rustup component add rustfmt
ENV LIBCLANG_PATH=/usr/lib/llvm-19/lib
WORKDIR /src
COPY . .
RUN cargo xtask install --release --staging /staging --pg-config /usr/lib/postgresql/17/bin/pg_config

FROM postgres:17-trixie
COPY --from=build /staging/ /
