# Shared by ./run, ./test and .ci/run: the packages a Debian 12 machine needs, and the build. Source it; everything it
# says goes to stderr, so that a script's stdout is the program's alone.

fathom_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Where there is a ccache, a clone in another folder may use what this one compiled.
export CCACHE_BASEDIR=$fathom_root CCACHE_NOHASHDIR=true

say() { printf 'fathom: %s\n' "$*" >&2; }

die() {
  say "$1"
  shift
  printf '  %s\n' "$@" >&2
  exit 1
}

# ensure_packages LIST...: installs what is missing of the packages named in these files. When everything is there this
# is one dpkg-query, no network.
ensure_packages() {
  if ! command -v dpkg-query >/dev/null; then
    local tool
    for tool in cmake ninja pkg-config g++; do
      command -v "$tool" >/dev/null || die "$tool is missing" \
        "This is not a Debian machine, so nothing is installed for you; tools/packages.txt lists what is needed."
    done
    return
  fi
  local wanted missing=()
  mapfile -t wanted < <(sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$@")
  local have name
  have=" $(dpkg-query -W -f='${db:Status-Abbrev}${Package} ' "${wanted[@]}" 2>/dev/null || true)"
  for name in "${wanted[@]}"; do
    [[ $have == *" ii $name "* || $have == *"hi $name "* ]] || missing+=("$name")
  done
  ((${#missing[@]})) || return 0

  local as_root=()
  if ((EUID != 0)); then
    if command -v sudo >/dev/null; then
      as_root=(sudo)
    else
      die "${#missing[@]} Debian packages are missing and only root may install them" \
        "Ask for: apt-get install --no-install-recommends ${missing[*]}"
    fi
  fi
  say "installing ${#missing[@]} Debian packages: ${missing[*]}"
  local install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends
    -o Dpkg::Use-Pty=0 -qq "${missing[@]}")
  # The package lists may be good already; a fresh container has none.
  "${install[@]}" >&2 && return 0
  "${as_root[@]}" apt-get update -qq >&2 || say "apt-get update failed; trying with the lists at hand"
  "${install[@]}" >&2 || die "could not install: ${missing[*]}" "See apt-get's words above."
}

# build PRESET [TARGET...]: configures when needed and builds; silent when nothing is to do.
build() {
  local preset=$1
  shift
  local dir=$fathom_root/build/$preset
  mkdir -p "$dir"
  # Two ./run at once must not build into the same folder at once.
  exec {build_lock}>"$dir/.lock"
  if command -v flock >/dev/null && ! flock -n "$build_lock"; then
    say "waiting for another build in $dir"
    flock "$build_lock"
  fi
  if [[ ! -f $dir/build.ninja ]]; then
    local options=()
    command -v ccache >/dev/null && options+=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
    say "configuring the $preset build"
    (cd "$fathom_root" && cmake --preset "$preset" "${options[@]}" >"$dir/configure.log" 2>&1) || {
      tail -n 30 "$dir/configure.log" >&2
      die "configuring failed" "The whole log: $dir/configure.log"
    }
  fi
  local ninja=(ninja -C "$dir")
  [[ -n ${FATHOM_BUILD_JOBS:-} ]] && ninja+=(-j "$FATHOM_BUILD_JOBS")
  # A dry run always names the check for new files; anything else in it is work worth announcing.
  if "${ninja[@]}" -n "$@" 2>/dev/null | grep -qvE 'Entering directory|Re-checking globbed|no work to do'; then
    say "building ($preset); the first time takes some minutes"
    NINJA_STATUS='[%f/%t] ' "${ninja[@]}" "$@" >&2 || die "the build failed" "Its first error is above."
  else
    "${ninja[@]}" --quiet "$@" >&2 || die "the build failed" "Its first error is above."
  fi
  exec {build_lock}>&-
}

# say_web_page PRESET: one line where the program was built without its web page.
say_web_page() {
  local state
  state=$(cat "$fathom_root/build/$1/webui/state" 2>/dev/null) || state="left out: not built yet"
  [[ $state == embedded ]] || say "the web page is $state (docs/webui.md)"
}
