# Read by run.sh of distill/ and vision/ with `.`: how they fail and take their words. The script's fourth line is its usage.
offsite=${OFFSITE:-$root/build/offsite}
fail() { echo "run.sh: $*" >&2; exit 1; }
usage() {
    echo "run.sh: $*" >&2
    sed -n '4s/^# *//p' "$0" >&2
    exit 2
}

# take_words "NAME..." WORD...: each word into the variable of that name in lower case, in this order, and what follows -o into `out`.
take_words() {
    names=$1
    shift
    while [ $# -gt 0 ]; do
        case $1 in
        -o)
            [ $# -ge 2 ] || usage "-o needs the name of a folder"
            out=$2
            shift ;;
        -*) usage "unknown option '$1'" ;;
        *)
            [ -n "$names" ] || usage "unexpected argument '$1'"
            name=$(echo "${names%% *}" | tr '[:upper:]' '[:lower:]') word=$1
            eval "$name=\$word"
            case $names in *' '*) names=${names#* } ;; *) names= ;; esac ;;
        esac
        shift
    done
    [ -z "$names" ] || usage "missing $names"
    [ -x "$offsite" ] || fail "$offsite is not there: build it first, or set OFFSITE"
}
