# bash completion of nagaya: the program itself says what may come next.

_nagaya() {
    local line=${COMP_LINE:0:COMP_POINT} last=$2 i word
    local -a words=()
    # bash has taken words apart at '=' and ':'; parts without a space between are one word.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        # Of the last, what stands before the cursor.
        [[ $i -eq $COMP_CWORD && $word != [=:] && $word != [=:][=:] ]] && word=$last
        if [[ $i -eq 0 || $line == [[:space:]]* ]]; then
            words+=("$word")
        else
            words[${#words[@]} - 1]+=$word
        fi
        line=${line#"${line%%[![:space:]]*}"}
        line=${line#"$word"}
    done
    local current=${words[${#words[@]} - 1]} IFS=$'\n'
    COMPREPLY=($(NAGAYA_COMPLETE=bash _NAGAYA_INDEX=$((${#words[@]} - 1)) "${words[0]}" -- "${words[@]}" 2>/dev/null))
    # bash wants no more than the part that it completes.
    COMPREPLY=("${COMPREPLY[@]#"${current%"$last"}"}")
    [[ ${COMPREPLY[0]-} == *[=:./] ]] && compopt -o nospace 2>/dev/null
    return 0
}

complete -o bashdefault -o nosort -F _nagaya nagaya 2>/dev/null || complete -o bashdefault -F _nagaya nagaya
