#compdef dmg
_dmg() {
    local -a commands=(
        'info:Say what an image is and what is in it.'
        'ls:List the files in an image.'
        'cp:Copy files and folders out of an image.'
        'app:List the applications and installer packages in an image.'
        'cat:Write a file in an image, or a range of its disk, to standard output.'
        'extract:Write an image'\''s disk, or one partition, to a file.'
        'verify:Check an image against the checksums that it stores.'
        'map:Draw how an image'\''s disk is stored, and where it is damaged.'
        'index:Save an index of an image, with which reads at any offset are fast.'
        'nbd:Serve an image'\''s disk, read-only, to QEMU and other clients of the NBD protocol.'
        'completion:Print a completion script for a shell.'
        'help:Print help on a command, or on all of dmg.'
        'version:Print the version.'
    )
    if ((CURRENT == 2)); then
        _describe command commands -- && return
        _arguments \
            '-h[Show context-sensitive help.]' \
            '--help[Show context-sensitive help.]' \
            '--version[Print the version and exit.]'
        return
    fi
    shift words
    ((CURRENT--))
    case $words[1] in
    info)
        _arguments \
            '-h[Show context-sensitive help.]' \
            '--help[Show context-sensitive help.]' \
            '--version[Print the version and exit.]' \
            '--json[Print JSON, an object a line for each image, whose fields stay as they are in later versions.]' \
            '--hash=[Decode the disk, and print its hash and that of each partition\: md5, sha1, sha256, sha512, or several with commas.]:NAME,...: ' \
            '--license[Print the text of the license agreement that the image has, in each language, and nothing else.]' \
            '--signature[Read the whole image, and compare it with its code signature. The exit status is 1 if it does not match, or if there is none.]' \
            '--password-file=[Read the password of an encrypted image or APFS volume from FILE, - for standard input. Each line is a password, which are tried in order.]:FILE:_files' \
            '--key-file=[Read an encrypted archive'\''s key from FILE, - for standard input\: a private key in PEM, or the symmetric key in hexadecimal or base64.]:FILE:_files' \
            '--memory-limit=[Memory for decoding, such as 32M; 64M if not given.]:SIZE: ' \
            '-v[Say on standard error what was decoded and fetched.]' \
            '--verbose[Say on standard error what was decoded and fetched.]' \
            '--index=[Use the index in FILE, or at a URL, from dmg index; IMAGE.dmgidx if not given and there is one.]:FILE:_files' \
            '--no-index[Use no index.]' \
            '*:image:_files'
        ;;
    ls)
        _arguments \
            '-h[Show context-sensitive help.]' \
            '--help[Show context-sensitive help.]' \
            '--version[Print the version and exit.]' \
            '-l[Print mode, links, owner, group, size and time as well.]' \
            '--long[Print mode, links, owner, group, size and time as well.]' \
            '-R[List folders in folders, all with their paths.]' \
            '--recursive[List folders in folders, all with their paths.]' \
            '--json[Print JSON, an object a line, whose fields stay as they are in later versions.]' \
            '-p[Read this volume\: the number of its partition from dmg info, or a name or type, of the volume or of its partition. A part of a name will do if it fits one only.]:NAME: ' \
            '--partition=[Read this volume\: the number of its partition from dmg info, or a name or type, of the volume or of its partition. A part of a name will do if it fits one only.]:NAME: ' \
            '--snapshot=[Read an APFS volume as it was\: the name of a snapshot from dmg info, or a part of it.]:NAME: ' \
            '--password-file=[Read the password of an encrypted image or APFS volume from FILE, - for standard input. Each line is a password, which are tried in order.]:FILE:_files' \
            '--key-file=[Read an encrypted archive'\''s key from FILE, - for standard input\: a private key in PEM, or the symmetric key in hexadecimal or base64.]:FILE:_files' \
            '--memory-limit=[Memory for decoding, such as 32M; 64M if not given.]:SIZE: ' \
            '-v[Say on standard error what was decoded and fetched.]' \
            '--verbose[Say on standard error what was decoded and fetched.]' \
            '--index=[Use the index in FILE, or at a URL, from dmg index; IMAGE.dmgidx if not given and there is one.]:FILE:_files' \
            '--no-index[Use no index.]' \
            ':image:_files' \
            ':path:_files'
        ;;
    cp)
        _arguments \
            '-h[Show context-sensitive help.]' \
            '--help[Show context-sensitive help.]' \
            '--version[Print the version and exit.]' \
            '-f[Replace files that exist.]' \
            '--force[Replace files that exist.]' \
            '--keep-going[Go on past files that can'\''t be copied, and exit with their status in the end.]' \
            '--xattrs[Copy extended attributes, Finder information and resource forks, into files named ._NAME.]' \
            '-q[Show no progress, and don'\''t tell what is left out.]' \
            '--quiet[Show no progress, and don'\''t tell what is left out.]' \
            '-p[Read this volume\: the number of its partition from dmg info, or a name or type, of the volume or of its partition. A part of a name will do if it fits one only.]:NAME: ' \
            '--partition=[Read this volume\: the number of its partition from dmg info, or a name or type, of the volume or of its partition. A part of a name will do if it fits one only.]:NAME: ' \
            '--snapshot=[Read an APFS volume as it was\: the name of a snapshot from dmg info, or a part of it.]:NAME: ' \
            '--password-file=[Read the password of an encrypted image or APFS volume from FILE, - for standard input. Each line is a password, which are tried in order.]:FILE:_files' \
            '--key-file=[Read an encrypted archive'\''s key from FILE, - for standard input\: a private key in PEM, or the symmetric key in hexadecimal or base64.]:FILE:_files' \
            '--memory-limit=[Memory for decoding, such as 32M; 64M if not given.]:SIZE: ' \
            '-v[Say on standard error what was decoded and fetched.]' \
            '--verbose[Say on standard error what was decoded and fetched.]' \
            '--index=[Use the index in FILE, or at a URL, from dmg index; IMAGE.dmgidx if not given and there is one.]:FILE:_files' \
            '--no-index[Use no index.]' \
            ':image:_files' \
            '*:path:_files'
        ;;
    app)
        _arguments \
            '-h[Show context-sensitive help.]' \
            '--help[Show context-sensitive help.]' \
            '--version[Print the version and exit.]' \
            '--nested[List applications and packages inside of applications, too.]' \
            '--json[Print JSON, an object a line for each image, whose fields stay as they are in later versions.]' \
            '-p[Read this volume\: the number of its partition from dmg info, or a name or type, of the volume or of its partition. A part of a name will do if it fits one only.]:NAME: ' \
            '--partition=[Read this volume\: the number of its partition from dmg info, or a name or type, of the volume or of its partition. A part of a name will do if it fits one only.]:NAME: ' \
            '--snapshot=[Read an APFS volume as it was\: the name of a snapshot from dmg info, or a part of it.]:NAME: ' \
            '--password-file=[Read the password of an encrypted image or APFS volume from FILE, - for standard input. Each line is a password, which are tried in order.]:FILE:_files' \
            '--key-file=[Read an encrypted archive'\''s key from FILE, - for standard input\: a private key in PEM, or the symmetric key in hexadecimal or base64.]:FILE:_files' \
            '--memory-limit=[Memory for decoding, such as 32M; 64M if not given.]:SIZE: ' \
            '-v[Say on standard error what was decoded and fetched.]' \
            '--verbose[Say on standard error what was decoded and fetched.]' \
            '--index=[Use the index in FILE, or at a URL, from dmg index; IMAGE.dmgidx if not given and there is one.]:FILE:_files' \
            '--no-index[Use no index.]' \
            '*:image:_files'
        ;;
    cat)
        _arguments \
            '-h[Show context-sensitive help.]' \
            '--help[Show context-sensitive help.]' \
            '--version[Print the version and exit.]' \
            '-o[Where to begin; at the beginning if not given.]:N: ' \
            '--offset=[Where to begin; at the beginning if not given.]:N: ' \
            '-n[How much to write; to the end if not given.]:N: ' \
            '--length=[How much to write; to the end if not given.]:N: ' \
            '-p[The volume that the files are in, or the partition to count from and to end with\: a number, name or type from dmg info, or a part of a name.]:NAME: ' \
            '--partition=[The volume that the files are in, or the partition to count from and to end with\: a number, name or type from dmg info, or a part of a name.]:NAME: ' \
            '--snapshot=[Read an APFS volume as it was\: the name of a snapshot from dmg info, or a part of it.]:NAME: ' \
            '--password-file=[Read the password of an encrypted image or APFS volume from FILE, - for standard input. Each line is a password, which are tried in order.]:FILE:_files' \
            '--key-file=[Read an encrypted archive'\''s key from FILE, - for standard input\: a private key in PEM, or the symmetric key in hexadecimal or base64.]:FILE:_files' \
            '--memory-limit=[Memory for decoding, such as 32M; 64M if not given.]:SIZE: ' \
            '-v[Say on standard error what was decoded and fetched.]' \
            '--verbose[Say on standard error what was decoded and fetched.]' \
            '--index=[Use the index in FILE, or at a URL, from dmg index; IMAGE.dmgidx if not given and there is one.]:FILE:_files' \
            '--no-index[Use no index.]' \
            ':image:_files' \
            '*:path:_files'
        ;;
    extract)
        _arguments \
            '-h[Show context-sensitive help.]' \
            '--help[Show context-sensitive help.]' \
            '--version[Print the version and exit.]' \
            '-p[Write this partition only\: a number, name or type from dmg info, or a part of a name.]:NAME: ' \
            '--partition=[Write this partition only\: a number, name or type from dmg info, or a part of a name.]:NAME: ' \
            '-f[Overwrite OUT if it exists.]' \
            '--force[Overwrite OUT if it exists.]' \
            '--keep-going[Write all that can be decoded, and zeros for what is lost, list both, and exit with status 1 in the end.]' \
            '--json[List what is damaged as JSON, an object a line, on standard output.]' \
            '-q[Show no progress.]' \
            '--quiet[Show no progress.]' \
            '--password-file=[Read the password of an encrypted image or APFS volume from FILE, - for standard input. Each line is a password, which are tried in order.]:FILE:_files' \
            '--key-file=[Read an encrypted archive'\''s key from FILE, - for standard input\: a private key in PEM, or the symmetric key in hexadecimal or base64.]:FILE:_files' \
            '--memory-limit=[Memory for decoding, such as 32M; 64M if not given.]:SIZE: ' \
            '-v[Say on standard error what was decoded and fetched.]' \
            '--verbose[Say on standard error what was decoded and fetched.]' \
            '--index=[Use the index in FILE, or at a URL, from dmg index; IMAGE.dmgidx if not given and there is one.]:FILE:_files' \
            '--no-index[Use no index.]' \
            ':image:_files' \
            ':out:_files'
        ;;
    verify)
        _arguments \
            '-h[Show context-sensitive help.]' \
            '--help[Show context-sensitive help.]' \
            '--version[Print the version and exit.]' \
            '--json[Print JSON, an object a line for each image, whose fields stay as they are in later versions.]' \
            '-q[Show no progress.]' \
            '--quiet[Show no progress.]' \
            '--password-file=[Read the password of an encrypted image or APFS volume from FILE, - for standard input. Each line is a password, which are tried in order.]:FILE:_files' \
            '--key-file=[Read an encrypted archive'\''s key from FILE, - for standard input\: a private key in PEM, or the symmetric key in hexadecimal or base64.]:FILE:_files' \
            '--memory-limit=[Memory for decoding, such as 32M; 64M if not given.]:SIZE: ' \
            '-v[Say on standard error what was decoded and fetched.]' \
            '--verbose[Say on standard error what was decoded and fetched.]' \
            '--index=[Use the index in FILE, or at a URL, from dmg index; IMAGE.dmgidx if not given and there is one.]:FILE:_files' \
            '--no-index[Use no index.]' \
            '*:image:_files'
        ;;
    map)
        _arguments \
            '-h[Show context-sensitive help.]' \
            '--help[Show context-sensitive help.]' \
            '--version[Print the version and exit.]' \
            '-o[The file to write, - for standard output, as if not given.]:FILE:_files' \
            '--out=[The file to write, - for standard output, as if not given.]:FILE:_files' \
            '--verify[Decode the whole disk, as dmg verify does, and mark what is damaged.]' \
            '-f[Overwrite the file if it exists.]' \
            '--force[Overwrite the file if it exists.]' \
            '-q[Show no progress.]' \
            '--quiet[Show no progress.]' \
            '--password-file=[Read the password of an encrypted image or APFS volume from FILE, - for standard input. Each line is a password, which are tried in order.]:FILE:_files' \
            '--key-file=[Read an encrypted archive'\''s key from FILE, - for standard input\: a private key in PEM, or the symmetric key in hexadecimal or base64.]:FILE:_files' \
            '--memory-limit=[Memory for decoding, such as 32M; 64M if not given.]:SIZE: ' \
            '-v[Say on standard error what was decoded and fetched.]' \
            '--verbose[Say on standard error what was decoded and fetched.]' \
            '--index=[Use the index in FILE, or at a URL, from dmg index; IMAGE.dmgidx if not given and there is one.]:FILE:_files' \
            '--no-index[Use no index.]' \
            ':image:_files'
        ;;
    index)
        _arguments \
            '-h[Show context-sensitive help.]' \
            '--help[Show context-sensitive help.]' \
            '--version[Print the version and exit.]' \
            '-o[The file to write, - for standard output; IMAGE.dmgidx if not given, or a file in the cache folder if IMAGE is a URL.]:FILE:_files' \
            '--out=[The file to write, - for standard output; IMAGE.dmgidx if not given, or a file in the cache folder if IMAGE is a URL.]:FILE:_files' \
            '-f[Overwrite the file even if it is no index.]' \
            '--force[Overwrite the file even if it is no index.]' \
            '--json[Print JSON, one object.]' \
            '-q[Show no progress.]' \
            '--quiet[Show no progress.]' \
            '--password-file=[Read the password of an encrypted image or APFS volume from FILE, - for standard input. Each line is a password, which are tried in order.]:FILE:_files' \
            '--key-file=[Read an encrypted archive'\''s key from FILE, - for standard input\: a private key in PEM, or the symmetric key in hexadecimal or base64.]:FILE:_files' \
            '--memory-limit=[Memory for decoding, such as 32M; 64M if not given.]:SIZE: ' \
            '-v[Say on standard error what was decoded and fetched.]' \
            '--verbose[Say on standard error what was decoded and fetched.]' \
            ':image:_files'
        ;;
    nbd)
        _arguments \
            '-h[Show context-sensitive help.]' \
            '--help[Show context-sensitive help.]' \
            '--version[Print the version and exit.]' \
            '-p[Serve this partition only\: a number, name or type from dmg info, or a part of a name.]:NAME: ' \
            '--partition=[Serve this partition only\: a number, name or type from dmg info, or a part of a name.]:NAME: ' \
            '--socket=[Listen on a Unix socket, which must not exist.]:PATH:_files' \
            '--listen=[Listen on a TCP address, HOST\:PORT or PORT; 127.0.0.1\:10809 if neither is given. Port 0 takes a free one.]:ADDR: ' \
            '--run=[Run COMMAND by the shell, with the URI in $uri, serve until it ends, and exit with its status.]:COMMAND: ' \
            '--ready-fd=[When clients can connect, write the URI and a newline to file descriptor N, and close it.]:N: ' \
            '--password-file=[Read the password of an encrypted image or APFS volume from FILE, - for standard input. Each line is a password, which are tried in order.]:FILE:_files' \
            '--key-file=[Read an encrypted archive'\''s key from FILE, - for standard input\: a private key in PEM, or the symmetric key in hexadecimal or base64.]:FILE:_files' \
            '--memory-limit=[Memory for decoding, such as 32M; 64M if not given.]:SIZE: ' \
            '-v[Say on standard error what was decoded and fetched.]' \
            '--verbose[Say on standard error what was decoded and fetched.]' \
            '--index=[Use the index in FILE, or at a URL, from dmg index; IMAGE.dmgidx if not given and there is one.]:FILE:_files' \
            '--no-index[Use no index.]' \
            ':image:_files'
        ;;
    completion)
        _arguments \
            '-h[Show context-sensitive help.]' \
            '--help[Show context-sensitive help.]' \
            '--version[Print the version and exit.]' \
            ':shell:(bash zsh fish)'
        ;;
    help)
        _arguments \
            '-h[Show context-sensitive help.]' \
            '--help[Show context-sensitive help.]' \
            '--version[Print the version and exit.]' \
            ':command:_files'
        ;;
    version)
        _arguments \
            '-h[Show context-sensitive help.]' \
            '--help[Show context-sensitive help.]' \
            '--version[Print the version and exit.]'
        ;;
    esac
}
if [[ $funcstack[1] == _dmg ]]; then
    _dmg "$@"
else
    compdef _dmg dmg
fi
