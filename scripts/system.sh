#!/usr/bin/env bash
# System packages that the full test suite uses beside Python: bubblewrap (a second way to isolate tools) and
# Chromium (looks at the report page as a reader would). Installs what is missing where it may, else says what to do.
set -euo pipefail

missing=()
command -v bwrap >/dev/null || missing+=(bubblewrap)
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
    missing+=(chromium)
[ ${#missing[@]} -eq 0 ] && exit 0

if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "installing ${missing[*]}"
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    if { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
        >"$log" 2>&1; then
        exit 0
    fi
    tail -n 5 "$log" >&2
fi
echo "these system packages are missing and the tests that need them will fail: ${missing[*]}" >&2
echo "on Debian or Ubuntu: sudo apt-get install ${missing[*]}" >&2
