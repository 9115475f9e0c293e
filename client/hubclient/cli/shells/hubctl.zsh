#compdef hubctl
# Completion of hubctl for zsh. In ~/.zshrc, after compinit:  eval "$(hubctl completion zsh)"
# or once, for all users, in a directory of $fpath:  hubctl completion zsh > .../_hubctl

_hubctl() {
    local line
    local -a answer values shown
    answer=("${(@f)$(command ${~${(Q)words[1]}} __complete zsh "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ $answer[1] == :files ]]; then
        _files
        return
    fi
    for line in $answer; do
        values+=("${line%%$'\t'*}")
        shown+=("${line/$'\t'/  -- }")
    done
    (( $#values )) || return 1
    if [[ $#values == 1 && $values[1] == *[=\>\<~] ]]; then
        compadd -S '' -l -d shown -a values
    else
        compadd -l -d shown -a values
    fi
}

if [[ $funcstack[1] == _hubctl ]]; then
    _hubctl "$@"
else
    compdef _hubctl hubctl
fi
