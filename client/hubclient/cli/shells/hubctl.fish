# Completion of hubctl for fish:  hubctl completion fish > ~/.config/fish/completions/hubctl.fish

function __hubctl_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l answer (command $words[1] __complete fish $words[2..] 2>/dev/null)
    if test "$answer[1]" = ':files'
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $answer
    end
end

complete -c hubctl -f -a '(__hubctl_complete)'
