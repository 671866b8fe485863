# Tollgate in an image of its own. librdkafka and its TLS are built in: a C toolchain, make and perl.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin tollgate

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl && rm -rf /var/lib/apt/lists/* \
    && useradd --system --home-dir /var/lib/tollgate --create-home tollgate \
    && mkdir /var/lib/tollgate/archive && chown tollgate:tollgate /var/lib/tollgate/archive
COPY --from=build /src/target/release/tollgate /usr/local/bin/tollgate
COPY config/compose.toml /etc/tollgate.toml
ENV TOLLGATE_CONFIG=/etc/tollgate.toml
USER tollgate
VOLUME /var/lib/tollgate
EXPOSE 8080 8081
ENTRYPOINT ["tollgate"]
CMD ["serve"]
