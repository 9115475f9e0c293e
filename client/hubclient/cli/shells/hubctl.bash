# Completion of hubctl for bash. In ~/.bashrc:  eval "$(hubctl completion bash)"
# or once, for all users:  hubctl completion bash > /etc/bash_completion.d/hubctl

_hubctl() {
    local answer
    COMPREPLY=()
    answer=$(command "${1/#\~/$HOME}" __complete bash "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null) || return
    if [[ $answer == :files ]]; then
        compopt -o default
    elif [[ -n $answer ]]; then
        mapfile -t COMPREPLY <<<"$answer"
        # What wants more after it: --sort=, size>
        [[ $answer == *[=\>\<~] ]] && compopt -o nospace
    fi
    return 0
}
complete -F _hubctl hubctl
