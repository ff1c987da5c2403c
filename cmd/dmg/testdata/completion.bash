# bash completion for dmg
_dmg() {
    local cur=${COMP_WORDS[COMP_CWORD]} flags= words=
    case $COMP_CWORD:${COMP_WORDS[1]} in
    1:*) flags='--help --version' words='info ls cp app cat extract verify map index nbd completion help version' ;;
    *:info) flags='--help --version --json --hash --license --signature --password-file --key-file --memory-limit --verbose --index --no-index' words='' ;;
    *:ls) flags='--help --version --long --recursive --json --partition --snapshot --password-file --key-file --memory-limit --verbose --index --no-index' words='' ;;
    *:cp) flags='--help --version --force --keep-going --xattrs --quiet --partition --snapshot --password-file --key-file --memory-limit --verbose --index --no-index' words='' ;;
    *:app) flags='--help --version --nested --json --partition --snapshot --password-file --key-file --memory-limit --verbose --index --no-index' words='' ;;
    *:cat) flags='--help --version --offset --length --partition --snapshot --password-file --key-file --memory-limit --verbose --index --no-index' words='' ;;
    *:extract) flags='--help --version --partition --force --keep-going --json --quiet --password-file --key-file --memory-limit --verbose --index --no-index' words='' ;;
    *:verify) flags='--help --version --json --quiet --password-file --key-file --memory-limit --verbose --index --no-index' words='' ;;
    *:map) flags='--help --version --out --verify --force --quiet --password-file --key-file --memory-limit --verbose --index --no-index' words='' ;;
    *:index) flags='--help --version --out --force --json --quiet --password-file --key-file --memory-limit --verbose' words='' ;;
    *:nbd) flags='--help --version --partition --socket --listen --run --ready-fd --password-file --key-file --memory-limit --verbose --index --no-index' words='' ;;
    *:completion) flags='--help --version' words='bash zsh fish' ;;
    *:help) flags='--help --version' words='' ;;
    *:version) flags='--help --version' words='' ;;
    esac
    [[ $cur == -* ]] && words=$flags
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _dmg dmg
