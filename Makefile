# make, make test, make install DESTDIR= PREFIX=/usr/local, make deb, make dist.
# Programs are static: no cgo, no library of the system they are built on.

VERSION ?= $(shell git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null | sed 's/^v//' | grep . || sed -n 's/^var Version = "\(.*\)"/\1/p' cmd/tapswitch/main.go)
ARCHES  ?= amd64 arm64
ARCH    ?= $(shell go env GOARCH)
HOST    := $(shell go env GOHOSTARCH)

DESTDIR    ?=
PREFIX     ?= /usr/local
BINDIR     ?= $(PREFIX)/bin
LIBDIR     ?= $(PREFIX)/lib
DATADIR    ?= $(PREFIX)/share
SYSCONFDIR ?= /etc

# The time that goes into manuals and packages is the last change's.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || date +%s)

bin = dist/$(1)/tapswitch

.PHONY: build test man completion install uninstall deb check-deb dist clean FORCE
build: $(call bin,$(ARCH))

# Go knows best what has changed.
dist/%/tapswitch: FORCE
	CGO_ENABLED=0 GOOS=linux GOARCH=$* go build -trimpath -ldflags '-s -w -X main.Version=$(VERSION)' -o $@ ./cmd/tapswitch

test:
	go vet ./...
	go test ./...

# Written by the program itself, as it runs here.
man: $(call bin,$(HOST))
	rm -rf dist/man
	$< man dist/man

completion: $(call bin,$(HOST))
	mkdir -p dist/completion
	$< completion bash >dist/completion/tapswitch
	$< completion zsh >dist/completion/_tapswitch
	$< completion fish >dist/completion/tapswitch.fish

# Links of faces stand in a directory of their own: nobody's slirp4netns is put in
# the shade. tapswitch install makes further ones.
install: $(call bin,$(ARCH)) man completion
	install -D -m 755 $< $(DESTDIR)$(BINDIR)/tapswitch
	install -d $(DESTDIR)$(DATADIR)/man/man1 $(DESTDIR)$(LIBDIR)/tapswitch
	install -m 644 dist/man/*.1 $(DESTDIR)$(DATADIR)/man/man1/
	install -D -m 644 dist/completion/tapswitch $(DESTDIR)$(DATADIR)/bash-completion/completions/tapswitch
	install -D -m 644 dist/completion/_tapswitch $(DESTDIR)$(DATADIR)/zsh/site-functions/_tapswitch
	install -D -m 644 dist/completion/tapswitch.fish $(DESTDIR)$(DATADIR)/fish/vendor_completions.d/tapswitch.fish
	for whose in user system; do for unit in service socket; do \
	  install -d $(DESTDIR)$(LIBDIR)/systemd/$$whose && \
	  sed 's|/usr/bin/tapswitch|$(BINDIR)/tapswitch|' configs/systemd/$$whose/tapswitch.$$unit >$(DESTDIR)$(LIBDIR)/systemd/$$whose/tapswitch.$$unit || exit 1; \
	done; done
	install -d $(DESTDIR)$(SYSCONFDIR)/apparmor.d
	sed 's|/usr/bin/tapswitch|$(BINDIR)/tapswitch|' configs/apparmor/tapswitch >$(DESTDIR)$(SYSCONFDIR)/apparmor.d/tapswitch
	install -d $(DESTDIR)$(DATADIR)/doc/tapswitch/examples
	install -m 644 README.md $(DESTDIR)$(DATADIR)/doc/tapswitch/
	install -m 644 configs/*.yaml $(DESTDIR)$(DATADIR)/doc/tapswitch/examples/
	$(call bin,$(HOST)) faces | cut -f2 | while read -r name; do ln -sf $(BINDIR)/tapswitch $(DESTDIR)$(LIBDIR)/tapswitch/$$name; done

uninstall:
	rm -f $(DESTDIR)$(BINDIR)/tapswitch $(DESTDIR)$(DATADIR)/man/man1/tapswitch.1 $(DESTDIR)$(DATADIR)/man/man1/tapswitch-*.1
	rm -f $(DESTDIR)$(DATADIR)/bash-completion/completions/tapswitch $(DESTDIR)$(DATADIR)/zsh/site-functions/_tapswitch
	rm -f $(DESTDIR)$(DATADIR)/fish/vendor_completions.d/tapswitch.fish $(DESTDIR)$(SYSCONFDIR)/apparmor.d/tapswitch
	for whose in user system; do rm -f $(DESTDIR)$(LIBDIR)/systemd/$$whose/tapswitch.service $(DESTDIR)$(LIBDIR)/systemd/$$whose/tapswitch.socket; done
	rm -rf $(DESTDIR)$(LIBDIR)/tapswitch $(DESTDIR)$(DATADIR)/doc/tapswitch

# A package for Debian and Ubuntu, made with dpkg-deb alone.
deb: $(foreach a,$(ARCHES),dist/$(a)/tapswitch) man completion
	for a in $(ARCHES); do .packaging/deb $$a '$(VERSION)' || exit 1; done

# What must hold for this machine's package: lintian, installing, the manual, removing.
check-deb:
	$(MAKE) --no-print-directory deb ARCHES=$(HOST)
	.packaging/check dist/tapswitch_*_$(HOST).deb

# Archives for other systems, and what is needed to trust them.
dist: $(foreach a,$(ARCHES),dist/$(a)/tapswitch) man completion
	for a in $(ARCHES); do \
	  rm -rf dist/tree && $(MAKE) --no-print-directory install ARCH=$$a DESTDIR=dist/tree/tapswitch-$(VERSION)-linux-$$a PREFIX= SYSCONFDIR=/etc >/dev/null && \
	  tar -C dist/tree --sort=name --owner=0 --group=0 --numeric-owner --mtime=@$(SOURCE_DATE_EPOCH) -cf - tapswitch-$(VERSION)-linux-$$a | \
	    gzip -n9 >dist/tapswitch-$(VERSION)-linux-$$a.tar.gz || exit 1; \
	done; rm -rf dist/tree
	cd dist && sha256sum *.tar.gz $(wildcard *.deb) >SHA256SUMS

clean:
	rm -rf dist
