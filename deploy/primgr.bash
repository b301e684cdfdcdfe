# shellcheck shell=bash
# bash completion for primgr(8)

_primgr() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words
  case $before in
    -c | --config)
      compopt -o filenames
      mapfile -t COMPREPLY < <(compgen -f -- "$word")
      return
      ;;
    -l | --listen | -u | --url) return ;;
    -L | --log-level) words='error warning info debug' ;;
    -F | --log-format) words='text json' ;;
    -s | --status) words='--watch --json --url --config' ;;
    -H | --history) words='--json --url --config' ;;
    -1 | --once) words='state primary real-primary --json --config --log-level' ;;
    -n | --look) words='--config --listen' ;;
    -x | --lost | -X | --found | -T | --forget-timeline | -d | --drain | -D | --undrain) words='--config' ;;
    *) words='--config --listen --log-level --log-format --once --status --watch --history --url --json --look --lost --found --forget-timeline --drain --undrain --check-config --version --help' ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _primgr primgr
