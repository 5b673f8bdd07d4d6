# The image of the hub, or with --build-arg PROGRAM=agent that of the agent. Build it for the platforms that you have:
# docker buildx build --platform linux/amd64,linux/arm64 -t REGISTRY/fairlead-hub:TAG .
#
# The last stage has no shell, no package manager and no npm: the C and C++ runtime that Node is linked to, CA certificates, Node and one bundled file.
# Node is the one that package-lock.json pins, so the image runs what the tests ran on; a Node base image would bring a version of its own.
# A release pins both base images by digest (--build-arg).
ARG BUILD_IMAGE=node:24-trixie-slim
ARG BASE_IMAGE=gcr.io/distroless/cc-debian13:nonroot
ARG PROGRAM=hub

FROM ${BUILD_IMAGE} AS build
ARG PROGRAM
WORKDIR /src
COPY package.json package-lock.json ./
# npm's install scripts are needed for two packages only: node brings the binary, esbuild checks its own.
RUN npm ci --no-audit --no-fund
COPY tsconfig.json ./
COPY src ./src
COPY hack ./hack
RUN node_modules/.bin/node hack/build.ts --only "$PROGRAM" \
 && install -D -m 0755 "$(readlink -f node_modules/.bin/node)" /out/usr/local/bin/node \
 && install -D -m 0644 "dist/fairlead-$PROGRAM.mjs" /out/usr/local/lib/fairlead/main.mjs \
 && /out/usr/local/bin/node /out/usr/local/lib/fairlead/main.mjs --version

FROM ${BASE_IMAGE}
ARG PROGRAM
LABEL org.opencontainers.image.title="fairlead-${PROGRAM}" \
      org.opencontainers.image.description="Machines under nodes and clusters behind firewalls through one Kubernetes API" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/ /
COPY LICENSE /usr/share/licenses/fairlead/LICENSE
# By number, so that the kubelet can see that it is not root.
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/node", "--max-semi-space-size=16", "/usr/local/lib/fairlead/main.mjs"]
