#!/bin/sh
# PostgreSQL for tests/test_servers.py: the one that is there, or the distribution's package. No server of the system is started.
# Without one it says why, and fails only where FLYWHEEL_REQUIRE_POSTGRES or CI is set: elsewhere those tests are skipped.
set -u

found() {
  command -v initdb >/dev/null && return 0
  for bin in /usr/lib/postgresql/*/bin/initdb; do
    [ -x "$bin" ] && return 0
  done
  return 1
}

found && exit 0

if [ "$(id -u)" = 0 ]; then
  root=""
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
  root="sudo -n"
else
  root="none"
fi

if ! command -v apt-get >/dev/null; then
  why="this is no Debian or Ubuntu (no apt-get); install PostgreSQL as your system does"
elif [ "$root" = none ]; then
  why="it takes root: sudo apt-get install postgresql"
else
  # The tests make a cluster of their own, in a temporary folder; the package is not to make and start another.
  $root mkdir -p /etc/postgresql-common/createcluster.d
  echo "create_main_cluster = false" | $root tee /etc/postgresql-common/createcluster.d/flywheel-tests.conf >/dev/null
  if $root apt-get update -qq && $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null; then
    found && exit 0
    why="the package was installed, but there is no initdb"
  else
    why="apt-get could not install it"
  fi
fi

echo "no PostgreSQL: $why" >&2
if [ -n "${CI:-}${FLYWHEEL_REQUIRE_POSTGRES:-}" ]; then
  exit 1
fi
echo "the tests of the loop on servers will be skipped" >&2
