# syntax=docker/dockerfile:1

# The build stage compiles everything it needs, SQLite included; the database drivers need no libpq.
FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package rhtmx-sync-server \
    && cp target/release/rhtmx-sync /usr/local/bin/rhtmx-sync

# curl is for health checks.
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/rhtmx-sync rhtmx-sync
COPY --from=build /usr/local/bin/rhtmx-sync /usr/local/bin/rhtmx-sync
USER rhtmx-sync
WORKDIR /var/lib/rhtmx-sync
EXPOSE 8080
ENTRYPOINT ["rhtmx-sync"]
# The server refuses to listen beyond loopback unless tokens are verified ([auth]) or --open is passed as well. The
# image leaves that decision to you.
CMD ["serve", "--bind", "0.0.0.0:8080"]
