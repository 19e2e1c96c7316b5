# Sourced by the run_vace_*.sh scripts, which are lists of examples:
#   example NAME vace preprocess ...     one command; lines of the same name belong together and run in order
#   run_examples "$@"                    no argument: the first example; NAME ...: these; all: every one; list: the names
# The environment is set up when it is missing.

example_names=()
example_commands=()

example() {
  local name=$1 line
  shift
  printf -v line '%q ' "$@"
  example_names+=("$name")
  example_commands+=("$line")
}

run_example() {
  local wanted=$1 found=0 i
  for i in "${!example_names[@]}"; do
    [ "${example_names[$i]}" = "$wanted" ] || continue
    found=1
    printf '+ %s\n' "${example_commands[$i]}" >&2
    eval "${example_commands[$i]}" || return $?
  done
  if [ $found -eq 0 ]; then
    printf "%s: no example '%s'; there are: %s\n" "$0" "$wanted" "$(printf '%s\n' "${example_names[@]}" | uniq | paste -sd' ' -)" >&2
    return 2
  fi
}

run_examples() {
  if [ "${1:-}" = list ]; then
    printf '%s\n' "${example_names[@]}" | uniq
    return
  fi
  bash scripts/setup.sh || exit $?
  PATH="$PWD/.venv/bin:$PATH"
  if [ $# -eq 0 ]; then
    set -- "${example_names[0]}"
  elif [ "$1" = all ]; then
    mapfile -t all < <(printf '%s\n' "${example_names[@]}" | uniq)
    set -- "${all[@]}"
  fi
  local name
  for name in "$@"; do run_example "$name" || exit $?; done
}
