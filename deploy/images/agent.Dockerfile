# The agent's image, for those who have docker: docker build -f deploy/images/agent.Dockerfile -t budcluster-agent .
# `make images` makes the same thing (smaller, reproducible) without docker.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN make bin/budcluster-agent

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /src/bin/budcluster-agent /usr/local/bin/budcluster-agent
ENV HOME=/tmp
ENTRYPOINT ["/usr/local/bin/budcluster-agent"]
CMD ["run"]
