# The hub's image, for those who have docker: docker build -f deploy/images/hub.Dockerfile -t budcluster-hub .
# `make images` makes the same thing (smaller, reproducible) without docker.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN make bin/budcluster-hub bin/budcluster-agent
RUN install -d -o 65532 -g 0 -m 0770 /state

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /src/bin/budcluster-hub /usr/local/bin/budcluster-hub
# The hub runs the agent's program to install an agent with a kubeconfig.
COPY --from=build /src/bin/budcluster-agent /usr/local/bin/budcluster-agent
COPY --from=build --chown=65532:0 /state /var/lib/budcluster
ENV BUDCLUSTER_STATE_DIR=/var/lib/budcluster
VOLUME /var/lib/budcluster
ENTRYPOINT ["/usr/local/bin/budcluster-hub"]
CMD ["serve"]
