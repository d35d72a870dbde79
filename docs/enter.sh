# Sourced by the first, hidden cell of a page: `. ../enter.sh NAME [zoo|run]` enters the page's own folder and puts
# what it builds on there.
set -e
export PATH="$RNNATLAS_BIN:$PATH"  # a shell may have set it anew
WORK="$(dirname "$RNNATLAS_MADE")/work"
KNOWN="$WORK/known"
if [ $# -gt 1 ] && [ ! -f "$KNOWN/done" ]; then
    mkdir -p "$KNOWN"
    (
        cd "$KNOWN"
        rm -rf zoo run atlas
        rnnatlas zoo build formal-languages --preset demo --runs 144 --out zoo --quiet
        rnnatlas train zoo --preset demo --set emulation.steps=600 --set emulation.first_steps=300 --out run --quiet
        rnnatlas evaluate run --quiet
        rnnatlas embed run zoo --out atlas --quiet
        touch done
    ) >"$KNOWN/log" 2>&1
fi
rm -rf "${WORK:?}/$1"
mkdir -p "$WORK/$1"
cd "$WORK/$1"
[ $# -gt 1 ] && cp -r "$KNOWN/zoo" .
[ "$2" = run ] && cp -r "$KNOWN/run" "$KNOWN/atlas" .
set +e
stty cols 110 2>/dev/null  # tables are as wide as a page
:
