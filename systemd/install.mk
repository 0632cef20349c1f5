# make install [DESTDIR=DIR] [PREFIX=/usr] / make uninstall [PURGE=1]
#
# The units contain /usr/lib/sepolicyd; another PREFIX rewrites them. With DESTDIR, nothing is started on this machine.
# The virtual environment uses the distribution's interpreter, to which setools and the SELinux bindings belong.

PREFIX ?= /usr
DESTDIR ?=
INSTALL_LIB = $(PREFIX)/lib/sepolicyd
INSTALL_DATA = $(PREFIX)/share/sepolicyd
INSTALL_UNITS = $(PREFIX)/lib/systemd/system
INSTALLED_UNITS = sepolicyd.service sepolicyd-boot.service sepolicyd-lease.service sepolicyd-lease.timer \
    sepolicyd-trial.service sepolicyd-metrics.service sepolicyd-metrics.timer
# offline machines: PIP_FLAGS="--no-index --find-links=DIR"
PIP_FLAGS ?=

.PHONY: install uninstall

install:
	@[ -n "$(DESTDIR)" ] || [ "$$(id -u)" = 0 ] || { echo "install: run this as root, or give DESTDIR=" >&2; exit 3; }
	bash packaging/python-environment "$(PYTHON)" "$(DESTDIR)$(INSTALL_LIB)" $(PIP_FLAGS)
	@# scripts created by pip contain DESTDIR in their first line; only python3 is used, by its path
	find "$(DESTDIR)$(INSTALL_LIB)/bin" -mindepth 1 ! -name 'python*' -delete
	rm -rf build/lib build/bdist.*
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(INSTALL_UNITS)" "$(DESTDIR)$(INSTALL_DATA)" \
	    "$(DESTDIR)$(PREFIX)/lib/sysusers.d" "$(DESTDIR)$(PREFIX)/lib/tmpfiles.d" "$(DESTDIR)/etc/sepolicyd"
	printf '#!/bin/sh\n# -I: neither the working directory nor the environment adds modules to what root runs\nexec %s/bin/python3 -I -m sepolicyd "$$@"\n' \
	    "$(INSTALL_LIB)" > "$(DESTDIR)$(PREFIX)/bin/sepolicyd"
	chmod 0755 "$(DESTDIR)$(PREFIX)/bin/sepolicyd"
	rm -rf "$(DESTDIR)$(INSTALL_DATA)/policies" "$(DESTDIR)$(INSTALL_DATA)/examples"
	cp -R policies examples "$(DESTDIR)$(INSTALL_DATA)/"
	sed -i 's,/usr/lib/sepolicyd,$(INSTALL_LIB),g' "$(DESTDIR)$(INSTALL_DATA)/policies/sepolicyd/sepolicyd.fc"
	sed 's,/usr/lib/sepolicyd,$(INSTALL_LIB),g' systemd/sepolicyd-run > "$(DESTDIR)$(INSTALL_LIB)/sepolicyd-run"
	install -m 0755 packaging/sepolicyd-scan "$(DESTDIR)$(INSTALL_LIB)/sepolicyd-scan"
	chmod -R u=rwX,go=rX "$(DESTDIR)$(INSTALL_DATA)" "$(DESTDIR)$(INSTALL_LIB)"
	chmod 0755 "$(DESTDIR)$(INSTALL_LIB)/sepolicyd-run"
	for unit in $(INSTALLED_UNITS); do \
	    sed 's,/usr/lib/sepolicyd,$(INSTALL_LIB),g' "systemd/$$unit" > "$(DESTDIR)$(INSTALL_UNITS)/$$unit" || exit 3; \
	    chmod 0644 "$(DESTDIR)$(INSTALL_UNITS)/$$unit"; \
	done
	install -m 0644 systemd/sepolicyd.sysusers "$(DESTDIR)$(PREFIX)/lib/sysusers.d/sepolicyd.conf"
	install -m 0644 systemd/sepolicyd.tmpfiles "$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/sepolicyd.conf"
	install -D -m 0644 systemd/sepolicyd.catalog "$(DESTDIR)$(PREFIX)/lib/systemd/catalog/sepolicyd.catalog"
	for page in build/man/*.8; do \
	    [ -e "$$page" ] || continue; \
	    install -D -m 0644 "$$page" "$(DESTDIR)$(PREFIX)/share/man/man8/$${page##*/}" || exit 3; \
	done
	@[ -n "$(DESTDIR)" ] || bash systemd/activate install "$(INSTALL_LIB)"

uninstall:
	@[ -n "$(DESTDIR)" ] || [ "$$(id -u)" = 0 ] || { echo "uninstall: run this as root, or give DESTDIR=" >&2; exit 3; }
	@# open leases are ended first, since the software that ends them is removed
	@[ -n "$(DESTDIR)" ] || bash systemd/activate uninstall "$(INSTALL_LIB)"
	rm -rf "$(DESTDIR)$(INSTALL_LIB)" "$(DESTDIR)$(INSTALL_DATA)"
	rm -f "$(DESTDIR)$(PREFIX)/bin/sepolicyd" $(INSTALLED_UNITS:%="$(DESTDIR)$(INSTALL_UNITS)/%")
	rm -f "$(DESTDIR)$(PREFIX)/lib/sysusers.d/sepolicyd.conf" "$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/sepolicyd.conf" \
	    "$(DESTDIR)$(PREFIX)/lib/systemd/catalog/sepolicyd.catalog"
	rm -f "$(DESTDIR)$(PREFIX)"/share/man/man8/sepolicyd.8 "$(DESTDIR)$(PREFIX)"/share/man/man8/sepolicyd-*.8
	rmdir --ignore-fail-on-non-empty "$(DESTDIR)/etc/sepolicyd" 2>/dev/null || true
	@[ -n "$(DESTDIR)" ] || bash systemd/activate removed "$(INSTALL_LIB)" "$(PURGE)"
