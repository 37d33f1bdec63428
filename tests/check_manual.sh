#!/bin/sh
# Every option of every subcommand's table is in docs/sanad.1, and the page formats without warnings.
set -u
bad=0
names=$(sed -n 's/^ *{"\([a-z][a-z-]*\)", .*CLI_.*/\1/p; s/^ *{\.name = "\([a-z][a-z-]*\)".*/\1/p' daemon/cmd_*.c |
    sort -u)
[ -n "$names" ] || bad=1
for n in $names; do
    escaped=$(echo "$n" | sed 's/-/\\\\-/g')
    if ! grep -qE -- "\\\\-\\\\-$escaped([^a-z]|\$)" docs/sanad.1; then
        echo "docs/sanad.1 does not mention --$n"
        bad=1
    fi
done
if command -v man >/dev/null; then
    warnings=$(LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings=w -l docs/sanad.1 2>&1 >/dev/null)
    if [ -n "$warnings" ]; then
        echo "$warnings"
        bad=1
    fi
fi
exit $bad
