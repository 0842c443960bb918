#!/bin/sh
# A Chromium for tests/test_review_browser.py: the one that is there, or the distribution's package.
# Without one it says why, and fails only where FLYWHEEL_REQUIRE_BROWSER or CI is set: elsewhere those tests are skipped.
set -u

for name in chromium chromium-browser google-chrome chrome; do
  command -v "$name" >/dev/null && exit 0
done

if [ "$(id -u)" = 0 ]; then
  root=""
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
  root="sudo -n"
else
  root="none"
fi

if ! command -v apt-get >/dev/null; then
  why="this is no Debian or Ubuntu (no apt-get); install chromium as your system does"
elif [ "$root" = none ]; then
  why="it takes root: sudo apt-get install chromium"
elif $root apt-get update -qq && $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; then
  # Ubuntu's package is a pointer to a snap, which does not run everywhere.
  command -v chromium >/dev/null && chromium --version >/dev/null 2>&1 && exit 0
  why="the package was installed, but chromium does not start"
else
  why="apt-get could not install it"
fi

echo "no Chromium: $why" >&2
if [ -n "${CI:-}${FLYWHEEL_REQUIRE_BROWSER:-}" ]; then
  exit 1
fi
echo "the browser tests of the review page will be skipped" >&2
