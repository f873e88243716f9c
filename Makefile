# Two commands for a newcomer: `make up` and `make test`. The rest are their parts.

PACKAGES := containerd runc containernetworking-plugins iptables iproute2 busybox-static gcc libc6-dev
TEST_PACKAGES := buildah mosquitto mosquitto-clients procps curl systemd strace binutils openssl
CARGO_DENY := 0.20.2

.PHONY: up build static image test deps test-deps format lint unit cli docs deny bench fuzz clean

up: deps build
	./target/release/kedge up --demo

build:
	cargo build --release --locked

# One file that asks a machine for no library: its C library is in it. This is what is given to machines and what the image
# holds. Relocations are packed, which the loader in it understands whatever the machine's does. Random numbers come from
# the kernel's call, not from /dev/urandom: there may be no /dev. For other processors, after `rustup target add` and with
# a C compiler for them: make static TARGET=aarch64-unknown-linux-gnu LINKER=aarch64-linux-gnu-gcc
TARGET := $(shell rustc -vV | sed -n 's/^host: //p')
LINKER := cc
STATIC_FLAGS := -C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs \
	--cfg getrandom_backend="linux_getrandom"
STATIC := target/$(TARGET)/release/kedge
# In bytes; what is larger is not given to machines behind bad networks.
LARGEST := 25000000

static:
	RUSTFLAGS='$(STATIC_FLAGS)' \
	cargo build --release --locked --target $(TARGET) --config 'target.$(TARGET).linker="$(LINKER)"'
	@! readelf --dynamic $(STATIC) | grep NEEDED
	@ls -l $(STATIC)
	@test $$(stat --format %s $(STATIC)) -le $(LARGEST) || { echo "larger than $(LARGEST) bytes"; exit 1; }

# The image of the cloud as an archive that `ctr images import`, `docker load` and `podman load` read.
IMAGE := kedge:$(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

image: static
	@command -v buildah >/dev/null || $(MAKE) test-deps
	install -D $(STATIC) target/image/root/usr/local/bin/kedge
	buildah --root $(CURDIR)/target/image/layers --runroot $(CURDIR)/target/image/run --storage-driver vfs \
	bud --isolation chroot --file manifests/Dockerfile --tag $(IMAGE) target/image/root
	rm -f target/image/kedge.tar
	buildah --root $(CURDIR)/target/image/layers --runroot $(CURDIR)/target/image/run --storage-driver vfs \
	push $(IMAGE) docker-archive:target/image/kedge.tar:$(IMAGE)

test: test-deps format lint unit cli docs deny

format:
	cargo fmt --check

lint:
	cargo clippy --all-targets --locked -- -D warnings

unit:
	cargo test --locked --lib --bins

# The binary from the outside, with the real containerd, kubectl and MQTT clients. One at a time: they share the
# machine's network and cgroups.
cli:
	cargo test --locked --test cli -- --test-threads=1

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --locked

# The advisory database cannot be had everywhere; licences, bans and sources need no network.
deny: target/tools/bin/cargo-deny
	target/tools/bin/cargo-deny --offline check bans licenses sources

target/tools/bin/cargo-deny:
	cargo install cargo-deny --version $(CARGO_DENY) --locked --debug --root target/tools

# Fuzzing on the stable compiler: libFuzzer's coverage works there, its sanitizers do not. Versions are the package's own.
FUZZ_TARGETS := envelope resource_path tunnel_frame topic csr token
FUZZ_SECONDS := 60
CARGO_FUZZ := 0.13.2

fuzz: target/tools/bin/cargo-fuzz
	cp Cargo.lock fuzz/Cargo.lock
	for target in $(FUZZ_TARGETS); do \
	PATH=$(CURDIR)/target/tools/bin:$$PATH RUSTC_BOOTSTRAP=1 cargo fuzz run --dev -s none $$target -- \
	-max_total_time=$(FUZZ_SECONDS) || exit 1; done

target/tools/bin/cargo-fuzz:
	cargo install cargo-fuzz --version $(CARGO_FUZZ) --locked --debug --root target/tools

bench: deps test-deps
	cargo bench --locked --bench figures --bench fleet

# Installs only what is missing, so that a prepared machine needs neither root nor a network.
deps:
	@missing=$$(for p in $(PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ]; then echo "installing: $$missing"; apt-get update -q && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; fi

test-deps: deps
	@missing=$$(for p in $(TEST_PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	command -v kubectl >/dev/null || missing="$$missing kubernetes-client"; \
	if [ -n "$$missing" ]; then echo "installing: $$missing"; apt-get update -q && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; fi

clean:
	cargo clean
