#compdef kedge

autoload -U is-at-least

_kedge() {
    typeset -A opt_args
    typeset -a _arguments_options
    local ret=1

    if is-at-least 5.2; then
        _arguments_options=(-s -S -C)
    else
        _arguments_options=(-s -C)
    fi

    local context curcontext="$curcontext" state line
    _arguments "${_arguments_options[@]}" : \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
'-V[Print version]' \
'--version[Print version]' \
":: :_kedge_commands" \
"*::: :->kedge" \
&& ret=0
    case $state in
    (kedge)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:kedge-command-$line[1]:"
        case $line[1] in
            (bugreport)
_arguments "${_arguments_options[@]}" : \
'-F+[The archive to write \[default\: kedge-bugreport-TIME.tar in this directory\]]:FILE:_files' \
'--file=[The archive to write \[default\: kedge-bugreport-TIME.tar in this directory\]]:FILE:_files' \
'--config=[The node'\''s edgecore.yaml; else the data directory, else the usual file is looked at]:FILE:_files' \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'-o+[Form of the list]:OUTPUT:(text json yaml)' \
'--output=[Form of the list]:OUTPUT:(text json yaml)' \
'--dry-run[List what would be in the archive, and write none]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(bundle)
_arguments "${_arguments_options[@]}" : \
'-o+[The bundle to write]:FILE:_files' \
'--output=[The bundle to write]:FILE:_files' \
'--join-file=[The join file, as \`kedge token create --join-file\` writes it]:FILE:_files' \
'*--image=[An archive of images, as \`docker save\` and \`ctr images export\` write it; may be repeated]:FILE:_files' \
'--binary=[The kedge to pack; for machines of another architecture \[default\: this one\]]:FILE:_files' \
'(-o --output --join-file --image --binary)--check=[Check a bundle and list its parts, and write none]:FILE:_files' \
'(-o --output --join-file --image --binary --check)--load=[Load the images of a bundle into this machine'\''s container runtime]:FILE:_files' \
'--runtime-endpoint=[The container runtime that gets them]:URL:_default' \
'--form=[Form of the list]:FORM:(text json yaml)' \
'(--check)--dry-run[Check everything that would be packed, and write nothing]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(cert)
_arguments "${_arguments_options[@]}" : \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
":: :_kedge__subcmd__cert_commands" \
"*::: :->cert" \
&& ret=0

    case $state in
    (cert)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:kedge-cert-command-$line[1]:"
        case $line[1] in
            (list)
_arguments "${_arguments_options[@]}" : \
'--config=[The node'\''s edgecore.yaml; else the data directory, else the usual file is looked at]:FILE:_files' \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'--kube-config=[The cluster'\''s kubeconfig, for the cloud'\''s certificates \[default\: the one in the data directory; where no node is, also \$KUBECONFIG, ~/.kube/config and that of this machine'\''s cloud\]]:FILE:_files' \
'--kubeconfig=[The cluster'\''s kubeconfig, for the cloud'\''s certificates \[default\: the one in the data directory; where no node is, also \$KUBECONFIG, ~/.kube/config and that of this machine'\''s cloud\]]:FILE:_files' \
'-o+[Form of the output]:OUTPUT:(text json yaml)' \
'--output=[Form of the output]:OUTPUT:(text json yaml)' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(renew)
_arguments "${_arguments_options[@]}" : \
'--config=[The node'\''s edgecore.yaml; else the data directory, else the usual file is looked at]:FILE:_files' \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'--cloud=[The cloud'\''s certificate service; that of the configuration or the running daemon when left out]:HOST:PORT:_default' \
'-o+[Form in which the outcome is shown]:OUTPUT:(text json yaml)' \
'--output=[Form in which the outcome is shown]:OUTPUT:(text json yaml)' \
'--dry-run[Check, and change nothing]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(ca)
_arguments "${_arguments_options[@]}" : \
'--config=[The node'\''s edgecore.yaml; else the data directory, else the usual file is looked at]:FILE:_files' \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'--kube-config=[The cluster'\''s kubeconfig, for the cloud'\''s certificates \[default\: the one in the data directory; where no node is, also \$KUBECONFIG, ~/.kube/config and that of this machine'\''s cloud\]]:FILE:_files' \
'--kubeconfig=[The cluster'\''s kubeconfig, for the cloud'\''s certificates \[default\: the one in the data directory; where no node is, also \$KUBECONFIG, ~/.kube/config and that of this machine'\''s cloud\]]:FILE:_files' \
'-o+[Form of the output]:OUTPUT:(text json yaml)' \
'--output=[Form of the output]:OUTPUT:(text json yaml)' \
'--hash[Print the hash alone]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
        esac
    ;;
esac
;;
(cloud)
_arguments "${_arguments_options[@]}" : \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
":: :_kedge__subcmd__cloud_commands" \
"*::: :->cloud" \
&& ret=0

    case $state in
    (cloud)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:kedge-cloud-command-$line[1]:"
        case $line[1] in
            (run)
_arguments "${_arguments_options[@]}" : \
'--config=[The configuration file; without one and with --embedded, defaults are used]:FILE:_files' \
'--log-format=[Form of the log on stderr]:LOG_FORMAT:(text json)' \
'--log-level=[\`error\`, \`warn\`, \`info\`, \`debug\`, \`trace\`, or a filter]:LEVEL:_default' \
'(--config)--data-dir=[Keep everything below this directory, on loopback, as \`kedge up\` does; implies --embedded]:DIR:_files' \
'--api-port=[Port of the Kubernetes API]:PORT:_default' \
'--hub-port=[Port of the cloud'\''s WebSocket]:PORT:_default' \
'--cert-port=[Port of the cloud'\''s certificate service]:PORT:_default' \
'--tunnel-port=[Port of the cloud'\''s tunnel]:PORT:_default' \
'--stream-port=[Port of the cloud'\''s kubelet API]:PORT:_default' \
'--embedded[Serve the Kubernetes API from this process]' \
'--dry-run[Check the configuration and end]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(config)
_arguments "${_arguments_options[@]}" : \
'(--minconfig)--defaultconfig[Every key with its default]' \
'--minconfig[Only the keys that people usually change (the default)]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(forward)
_arguments "${_arguments_options[@]}" : \
'--kube-config=[The cluster'\''s kubeconfig \[default\: \$KUBECONFIG, then ~/.kube/config, then the pod'\''s account\]]:FILE:_files' \
'--kubeconfig=[The cluster'\''s kubeconfig \[default\: \$KUBECONFIG, then ~/.kube/config, then the pod'\''s account\]]:FILE:_files' \
'--server=[The URL of the cluster'\''s API, where nothing else tells it]:URL:_default' \
'--forward-port=[The port at which every cloud serves the kubelet API (modules.cloudStream.streamPort)]:PORT:_default' \
'--host-root=[Where the machine'\''s file system is mounted, in a pod\: the machine'\''s own iptables is run there]:DIR:_files' \
'--log-format=[Form of the log on stderr]:LOG_FORMAT:(text json)' \
'--log-level=[\`error\`, \`warn\`, \`info\`, \`debug\`, \`trace\`, or a filter]:LEVEL:_default' \
'--dry-run[Show the rules that the record asks for and end]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(reset)
_arguments "${_arguments_options[@]}" : \
'--kube-config=[The cluster'\''s kubeconfig \[default\: \$KUBECONFIG, then ~/.kube/config\]]:FILE:_files' \
'--kubeconfig=[The cluster'\''s kubeconfig \[default\: \$KUBECONFIG, then ~/.kube/config\]]:FILE:_files' \
'--yes-i-mean=[The cluster'\''s name, as the kubeconfig has it; without it, it is asked for]:NAME:_default' \
'--cluster-name=[The cluster'\''s name, as the kubeconfig has it; without it, it is asked for]:NAME:_default' \
'-o+[Form in which the outcome is shown]:OUTPUT:(text json yaml)' \
'--output=[Form in which the outcome is shown]:OUTPUT:(text json yaml)' \
'--purge[Also remove definitions with the objects under them, and a namespace that others use]' \
'--force[Put back on this machine what others have changed since]' \
'--dry-run[List what would be removed, and change nothing]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
        esac
    ;;
esac
;;
(completion)
_arguments "${_arguments_options[@]}" : \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
':shell -- The shell:(bash elvish fish powershell zsh)' \
&& ret=0
;;
(config)
_arguments "${_arguments_options[@]}" : \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
":: :_kedge__subcmd__config_commands" \
"*::: :->config" \
&& ret=0

    case $state in
    (config)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:kedge-config-command-$line[1]:"
        case $line[1] in
            (set)
_arguments "${_arguments_options[@]}" : \
'--config=[The file \[default\: edgecore.yaml or cloudcore.yaml in /etc/kubeedge/config\]]:FILE:_files' \
'--role=[Whose configuration it is; the file'\''s kind says so when left out]:ROLE:(edge cloud)' \
'-o+[Form of the output]:OUTPUT:(text json yaml)' \
'--output=[Form of the output]:OUTPUT:(text json yaml)' \
'--dry-run[Show what would change, and change nothing]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
'*::changes -- Settings and their values:_default' \
&& ret=0
;;
(get)
_arguments "${_arguments_options[@]}" : \
'--config=[The file \[default\: edgecore.yaml or cloudcore.yaml in /etc/kubeedge/config\]]:FILE:_files' \
'--role=[Whose configuration it is; the file'\''s kind says so when left out]:ROLE:(edge cloud)' \
'-o+[Form of the output]:OUTPUT:(text json yaml)' \
'--output=[Form of the output]:OUTPUT:(text json yaml)' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
'::key -- The setting; all when left out:_default' \
&& ret=0
;;
(validate)
_arguments "${_arguments_options[@]}" : \
'--config=[The file \[default\: edgecore.yaml or cloudcore.yaml in /etc/kubeedge/config\]]:FILE:_files' \
'--role=[Whose configuration it is; the file'\''s kind says so when left out]:ROLE:(edge cloud)' \
'-o+[Form of the output]:OUTPUT:(text json yaml)' \
'--output=[Form of the output]:OUTPUT:(text json yaml)' \
'--strict[Count warnings, such as unknown keys, as problems]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
'*::files -- The files; those of this machine when left out:_files' \
&& ret=0
;;
        esac
    ;;
esac
;;
(device)
_arguments "${_arguments_options[@]}" : \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
":: :_kedge__subcmd__device_commands" \
"*::: :->device" \
&& ret=0

    case $state in
    (device)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:kedge-device-command-$line[1]:"
        case $line[1] in
            (list)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'--kube-config=[Ask the Kubernetes API of this kubeconfig instead of this node'\''s store]:FILE:_files' \
'-o+[Form of the output]:OUTPUT:(text json yaml)' \
'--output=[Form of the output]:OUTPUT:(text json yaml)' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(describe)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'--kube-config=[Ask the Kubernetes API of this kubeconfig instead of this node'\''s store]:FILE:_files' \
'-o+[Form of the output]:OUTPUT:(text json yaml)' \
'--output=[Form of the output]:OUTPUT:(text json yaml)' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
':device -- The device\: NAME or NAMESPACE/NAME:_default' \
&& ret=0
;;
(simulate)
_arguments "${_arguments_options[@]}" : \
'--device=[The device to play\: NAME or NAMESPACE/NAME]:DEVICE:_default' \
'--property=[The property that it measures]:PROPERTY:_default' \
'--interval=[Time between two reports, such as 500ms, 1s or 2m]:INTERVAL:_default' \
'--reports=[End after this many reports]:N:_default' \
'--mqtt=[The broker; the one of this node'\''s daemon when left out]:HOST:PORT:_default' \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
        esac
    ;;
esac
;;
(doctor)
_arguments "${_arguments_options[@]}" : \
'--role=[Which side of kedge to look at; found when not given]:ROLE:(edge cloud)' \
'*--only=[Only these checks\: codes, beginnings of codes, or groups]:CHECKS:_default' \
'*--skip=[All but these checks]:CHECKS:_default' \
'--fix=[Mend what can be mended, or one code of it; shows what changes and asks first]::CODE:_default' \
'--config=[The configuration file; found when not given]:FILE:_files' \
'--kube-config=[The cluster to look at with the role cloud]:FILE:_files' \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'-o+[Form of the output]:OUTPUT:((text\:""
json\:""
jsonl\:"One finding a line"
yaml\:""
junit\:""
short\:"Only what is not fine"))' \
'--output=[Form of the output]:OUTPUT:((text\:""
json\:""
jsonl\:"One finding a line"
yaml\:""
junit\:""
short\:"Only what is not fine"))' \
'--pre[Only what a machine needs before kedge is on it]' \
'(--fix)--list[List the checks and run none]' \
'--strict[Count warnings as failures, with exit status 3]' \
'-y[Mend without asking]' \
'--yes[Mend without asking]' \
'--dry-run[Show what --fix would change, and change nothing]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_kedge__subcmd__doctor_commands" \
"*::: :->doctor" \
&& ret=0

    case $state in
    (doctor)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:kedge-doctor-command-$line[1]:"
        case $line[1] in
            (offline)
_arguments "${_arguments_options[@]}" : \
'--runtime-endpoint=[The container runtime'\''s socket; found when not given]:ENDPOINT:_default' \
'--db=[The database file; also one of a genuine edgecore]:FILE:_files' \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'-o+[Form of the output]:OUTPUT:(text json yaml)' \
'--output=[Form of the output]:OUTPUT:(text json yaml)' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
        esac
    ;;
esac
;;
(edge)
_arguments "${_arguments_options[@]}" : \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
":: :_kedge__subcmd__edge_commands" \
"*::: :->edge" \
&& ret=0

    case $state in
    (edge)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:kedge-edge-command-$line[1]:"
        case $line[1] in
            (run)
_arguments "${_arguments_options[@]}" : \
'--config=[The configuration file]:FILE:_files' \
'(--config)--data-dir=[Keep everything below this directory, as \`kedge up\` does, and read no configuration file]:DIR:_files' \
'--node=[Name of this machine as a node \[default\: its host name\]]:NAME:_default' \
'--cloud=[Host name or address of the cloud \[default\: 127.0.0.1\]]:HOST:_default' \
'--hub-port=[Port of the cloud'\''s WebSocket]:PORT:_default' \
'--cert-port=[Port of the cloud'\''s certificate service]:PORT:_default' \
'--tunnel-port=[Port of the cloud'\''s tunnel]:PORT:_default' \
'--mqtt-port=[Port of the MQTT broker on loopback \[default\: 1883\]]:PORT:_default' \
'--token=[Join token; needed until the node has a certificate]:TOKEN:_default' \
'--log-format=[Form of the log on stderr]:LOG_FORMAT:(text json)' \
'--log-level=[\`error\`, \`warn\`, \`info\`, \`debug\`, \`trace\`, or a filter]:LEVEL:_default' \
'--dry-run[Check the configuration and end]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(config)
_arguments "${_arguments_options[@]}" : \
'(--minconfig)--defaultconfig[Every key with its default]' \
'--minconfig[Only the keys that differ from node to node (the default)]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(launch)
_arguments "${_arguments_options[@]}" : \
'--config=[The edge daemon'\''s configuration]:FILE:_files' \
'--log-format=[Form of the log on stderr]:LOG_FORMAT:(text json)' \
'--log-level=[\`error\`, \`warn\`, \`info\`, \`debug\`, \`trace\`, or a filter]:LEVEL:_default' \
'--dry-run[Check configuration and slots, say which version would run, and end]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(upgrade)
_arguments "${_arguments_options[@]}" : \
'--to=[The kedge binary of the new version, its signature beside it as FILE.sig; or a version, which the cloud hands out]:FILE|VERSION:_default' \
'(--key --digest --deadline --allow-downgrade)*--nodes=[Upgrade these nodes of the cluster, not this machine]:NODE,…:_default' \
'(--key --digest --deadline --allow-downgrade)--selector=[Upgrade the edge nodes with these labels, such as site=lab]:SELECTOR:_default' \
'--max-unavailable=[Nodes that may be away at a time\: a number, or a share such as 10%]:N|N%:_default' \
'--failure-budget=[Nodes that may fail before no more waves begin]:N:_default' \
'--node-timeout=[How long a node may take for each step, such as 90s or 5m]:TIME:_default' \
'--kube-config=[The cluster \[default\: \$KUBECONFIG or ~/.kube/config\]]:FILE:_files' \
'--config=[The edge daemon'\''s configuration]:FILE:_files' \
'--key=[The public key (PEM) that counts, instead of those in /etc/kubeedge/upgrade-keys]:PEM:_files' \
'--digest=[The digest that the binary has to have]:sha256:HEX:_default' \
'--deadline=[How long the new version has to get ready, such as 90s or 5m]:TIME:_default' \
'-o+[Form in which the outcome is shown]:OUTPUT:(text json yaml)' \
'--output=[Form in which the outcome is shown]:OUTPUT:(text json yaml)' \
'--wait[Wait until the new version has proved good or the old one is back; nodes of the cluster are always waited for]' \
'--allow-downgrade[Take a version that is older than what ran here]' \
'-y[Ask nothing]' \
'--yes[Ask nothing]' \
'--dry-run[Check everything and change nothing]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_kedge__subcmd__edge__subcmd__upgrade_commands" \
"*::: :->upgrade" \
&& ret=0

    case $state in
    (upgrade)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:kedge-edge-upgrade-command-$line[1]:"
        case $line[1] in
            (confirm)
_arguments "${_arguments_options[@]}" : \
'--config=[The edge daemon'\''s configuration]:FILE:_files' \
'--dry-run[Show what waits and agree to nothing]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
        esac
    ;;
esac
;;
(rollback)
_arguments "${_arguments_options[@]}" : \
'--to=[The version to go back to \[default\: the one before\]]:VERSION:_default' \
'--config=[The edge daemon'\''s configuration]:FILE:_files' \
'-o+[Form in which the outcome is shown]:OUTPUT:(text json yaml)' \
'--output=[Form in which the outcome is shown]:OUTPUT:(text json yaml)' \
'--wait[Wait until it has proved good or the present version is back]' \
'-y[Ask nothing]' \
'--yes[Ask nothing]' \
'--dry-run[Check everything and change nothing]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(backup)
_arguments "${_arguments_options[@]}" : \
'--config=[The edge daemon'\''s configuration]:FILE:_files' \
'-o+[Form of the output]:OUTPUT:(text json yaml)' \
'--output=[Form of the output]:OUTPUT:(text json yaml)' \
'--list[Show the backups that are there and make none]' \
'(--list)--dry-run[Say what would be copied, and copy nothing]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(history)
_arguments "${_arguments_options[@]}" : \
'-o+[Form of the output]:OUTPUT:(text json yaml)' \
'--output=[Form of the output]:OUTPUT:(text json yaml)' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
        esac
    ;;
esac
;;
(exec)
_arguments "${_arguments_options[@]}" : \
'-n+[The pod'\''s namespace]:NS:_default' \
'--namespace=[The pod'\''s namespace]:NS:_default' \
'-c+[The container; the only one when left out]:NAME:_default' \
'--container=[The container; the only one when left out]:NAME:_default' \
'--runtime-endpoint=[The container runtime'\''s socket; found when not given]:ENDPOINT:_default' \
'--db=[The database file; also one of a genuine edgecore]:FILE:_files' \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'-i[Pass standard input to the command]' \
'--stdin[Pass standard input to the command]' \
'-t[Give the command a terminal]' \
'--tty[Give the command a terminal]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
':pod -- The pod'\''s name:_default' \
'*::command -- The command and its arguments:_default' \
&& ret=0
;;
(explain)
_arguments "${_arguments_options[@]}" : \
'--lang=[Language of the page; that of the environment (LC_ALL, LC_MESSAGES, LANG) when left out]:LANG:((en\:"English"
zh\:"Chinese"))' \
'-o+[Form of the output]:OUTPUT:(text json yaml)' \
'--output=[Form of the output]:OUTPUT:(text json yaml)' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::code -- The code; all are listed when it is left out:_default' \
&& ret=0
;;
(gettoken)
_arguments "${_arguments_options[@]}" : \
'--kube-config=[The cluster'\''s kubeconfig \[default\: \$KUBECONFIG, that in the data directory, ~/.kube/config, that of this machine'\''s cloud\]]:FILE:_files' \
'--kubeconfig=[The cluster'\''s kubeconfig \[default\: \$KUBECONFIG, that in the data directory, ~/.kube/config, that of this machine'\''s cloud\]]:FILE:_files' \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(help)
_arguments "${_arguments_options[@]}" : \
'--lang=[Language of the topics; that of the environment (LC_ALL, LC_MESSAGES, LANG) when left out]:LANG:((en\:"English"
zh\:"Chinese"))' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'*::words -- A topic, or the words of a command; the topics are listed when left out:_default' \
&& ret=0
;;
(init)
_arguments "${_arguments_options[@]}" : \
'--kube-config=[The cluster'\''s kubeconfig \[default\: \$KUBECONFIG, then ~/.kube/config\]]:FILE:_files' \
'--kubeconfig=[The cluster'\''s kubeconfig \[default\: \$KUBECONFIG, then ~/.kube/config\]]:FILE:_files' \
'*--advertise-address=[Addresses or names under which nodes reach the cloud, separated by commas]:ADDRESS:_default' \
'--mode=[Where the cloud runs\: as a Deployment in the cluster, or as a service of this machine]:MODE:(cluster host)' \
'*--set=[Settings of cloudcore.yaml, such as modules.cloudHub.nodeLimit=2000, over those made before; may be repeated]:KEY=VALUE:_default' \
'--ha=[Three replicas on three machines; --ha=false goes back to one \[default\: as it was, or one\]]::BOOL:(true false)' \
'--image=[The container image of the cloud \[default\: the one that was chosen before, or this version'\''s\]]:IMAGE:_default' \
'--join-file=[Write a join file instead of printing a token; one that is still good stays, the token of any other is revoked]:FILE:_files' \
'--wait=[How long to wait until the cloud serves; 0 does not wait]:TIME:_default' \
'-o+[How to print what was done]:OUTPUT:(text json yaml)' \
'--output=[How to print what was done]:OUTPUT:(text json yaml)' \
'--keep-daemonsets-off-edge[Keep DaemonSets of the cluster'\''s own network off edge nodes]' \
'--force[Take over fields that others manage, and go on beside a cloudcore]' \
'-d[Look at everything, print what would be applied, and change nothing]' \
'--dry-run[Look at everything, print what would be applied, and change nothing]' \
'-y[Do not ask]' \
'--yes[Do not ask]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(join)
_arguments "${_arguments_options[@]}" : \
'-e+[Address of the cloud'\''s hub]:HOST:PORT:_default' \
'--cloudcore-ipport=[Address of the cloud'\''s hub]:HOST:PORT:_default' \
'-t+[Join token of the cloud, as it is or in base64]:TOKEN:_default' \
'--token=[Join token of the cloud, as it is or in base64]:TOKEN:_default' \
'-i+[Name of the node \[default\: the host name\]]:NAME:_default' \
'--edgenode-name=[Name of the node \[default\: the host name\]]:NAME:_default' \
'-s+[Port of the cloud'\''s certificate service \[default\: 10002\]]:PORT:_default' \
'--certport=[Port of the cloud'\''s certificate service \[default\: 10002\]]:PORT:_default' \
'--join-file=[A file of \`kedge token create --join-file\` with address, token and labels]:FILE:_files' \
'(--join-file)--bundle=[A file of \`kedge bundle\`\: its join file, its images and its kedge are used, and no network but the cloud'\''s]:FILE:_files' \
'-p+[Socket of the container runtime \[default\: the well-known one that answers\]]:URL:_default' \
'--remote-runtime-endpoint=[Socket of the container runtime \[default\: the well-known one that answers\]]:URL:_default' \
'--cgroupdriver=[Driver of control groups; auto asks the runtime]:NAME:(auto cgroupfs systemd)' \
'*-l+[Labels of the node; may be repeated]:KEY=VALUE:_default' \
'*--labels=[Labels of the node; may be repeated]:KEY=VALUE:_default' \
'--hub-protocol=[How the hub is reached]:NAME:(auto websocket quic)' \
'*--set=[Set any key of edgecore.yaml; may be repeated]:PATH=VALUE,…:_default' \
'--timeout=[How long to wait until the node is Ready]:TIME:_default' \
'-o+[Form of the data\: with json and yaml each milestone is an event, and the outcome is the last one]:OUTPUT:(text json yaml)' \
'--output=[Form of the data\: with json and yaml each milestone is an event, and the outcome is the last one]:OUTPUT:(text json yaml)' \
'--takeover[Take the place of the edgecore on this machine, with its certificates, database and pods]' \
'--dry-run[Show what would be done, and change nothing]' \
'-y[Answer every question with yes]' \
'--yes[Answer every question with yes]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(man)
_arguments "${_arguments_options[@]}" : \
'()--dir=[Write all pages below this directory, in man1 and man7]:DIR:_files' \
'--dry-run[List the files, and write none]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
'*::words -- The words of a command, or a topic; kedge itself when left out:_default' \
&& ret=0
;;
(limits)
_arguments "${_arguments_options[@]}" : \
'-o+[Form of the output]:OUTPUT:(text json yaml)' \
'--output=[Form of the output]:OUTPUT:(text json yaml)' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(logs)
_arguments "${_arguments_options[@]}" : \
'-n+[The pod'\''s namespace]:NS:_default' \
'--namespace=[The pod'\''s namespace]:NS:_default' \
'-c+[The container; the only one when left out]:NAME:_default' \
'--container=[The container; the only one when left out]:NAME:_default' \
'--tail=[Begin with the last N lines]:N:_default' \
'--runtime-endpoint=[The container runtime'\''s socket; found when not given]:ENDPOINT:_default' \
'--db=[The database file; also one of a genuine edgecore]:FILE:_files' \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'-f[Go on with what is written from now on, until the container ends]' \
'--follow[Go on with what is written from now on, until the container ends]' \
'(-f --follow)-p[The run of the container before the present one]' \
'(-f --follow)--previous[The run of the container before the present one]' \
'--timestamps[Show when each line was written]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
':pod -- The pod'\''s name:_default' \
&& ret=0
;;
(meta)
_arguments "${_arguments_options[@]}" : \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
":: :_kedge__subcmd__meta_commands" \
"*::: :->meta" \
&& ret=0

    case $state in
    (meta)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:kedge-meta-command-$line[1]:"
        case $line[1] in
            (list)
_arguments "${_arguments_options[@]}" : \
'--type=[Only objects of this type, such as pod, configmap, secret, node, device]:TYPE:_default' \
'-n+[Only objects of this namespace]:NS:_default' \
'--namespace=[Only objects of this namespace]:NS:_default' \
'--db=[The database file; also one of a genuine edgecore]:FILE:_files' \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'-o+[Form of the output]:OUTPUT:(text json yaml)' \
'--output=[Form of the output]:OUTPUT:(text json yaml)' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(get)
_arguments "${_arguments_options[@]}" : \
'--db=[The database file; also one of a genuine edgecore]:FILE:_files' \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'-o+[Form of the output]:OUTPUT:(text json yaml)' \
'--output=[Form of the output]:OUTPUT:(text json yaml)' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
':key -- Namespace, type and name; the namespace of what has none is `null`:_default' \
&& ret=0
;;
(export)
_arguments "${_arguments_options[@]}" : \
'--db=[The database file; also one of a genuine edgecore]:FILE:_files' \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'-o+[Form of the output; text is YAML]:OUTPUT:(text json yaml)' \
'--output=[Form of the output; text is YAML]:OUTPUT:(text json yaml)' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
        esac
    ;;
esac
;;
(pods)
_arguments "${_arguments_options[@]}" : \
'-n+[Only pods of this namespace]:NS:_default' \
'--namespace=[Only pods of this namespace]:NS:_default' \
'--runtime-endpoint=[The container runtime'\''s socket; found when not given]:ENDPOINT:_default' \
'--db=[The database file; also one of a genuine edgecore]:FILE:_files' \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'-o+[Form of the output]:OUTPUT:(text json yaml)' \
'--output=[Form of the output]:OUTPUT:(text json yaml)' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(reset)
_arguments "${_arguments_options[@]}" : \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
":: :_kedge__subcmd__reset_commands" \
"*::: :->reset" \
&& ret=0

    case $state in
    (reset)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:kedge-reset-command-$line[1]:"
        case $line[1] in
            (edge)
_arguments "${_arguments_options[@]}" : \
'-o+[Form in which the outcome is shown]:OUTPUT:(text json yaml)' \
'--output=[Form in which the outcome is shown]:OUTPUT:(text json yaml)' \
'--dry-run[List what would be undone, and change nothing]' \
'--force[Ask nothing, and put back what others have changed since]' \
'-y[Answer every question with yes]' \
'--yes[Answer every question with yes]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(cloud)
_arguments "${_arguments_options[@]}" : \
'--kube-config=[The cluster'\''s kubeconfig \[default\: \$KUBECONFIG, then ~/.kube/config\]]:FILE:_files' \
'--kubeconfig=[The cluster'\''s kubeconfig \[default\: \$KUBECONFIG, then ~/.kube/config\]]:FILE:_files' \
'--yes-i-mean=[The cluster'\''s name, as the kubeconfig has it; without it, it is asked for]:NAME:_default' \
'--cluster-name=[The cluster'\''s name, as the kubeconfig has it; without it, it is asked for]:NAME:_default' \
'-o+[Form in which the outcome is shown]:OUTPUT:(text json yaml)' \
'--output=[Form in which the outcome is shown]:OUTPUT:(text json yaml)' \
'--purge[Also remove definitions with the objects under them, and a namespace that others use]' \
'--force[Put back on this machine what others have changed since]' \
'--dry-run[List what would be removed, and change nothing]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
        esac
    ;;
esac
;;
(service)
_arguments "${_arguments_options[@]}" : \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
":: :_kedge__subcmd__service_commands" \
"*::: :->service" \
&& ret=0

    case $state in
    (service)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:kedge-service-command-$line[1]:"
        case $line[1] in
            (status)
_arguments "${_arguments_options[@]}" : \
'-o+[Form of the output]:OUTPUT:(text json yaml)' \
'--output=[Form of the output]:OUTPUT:(text json yaml)' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(start)
_arguments "${_arguments_options[@]}" : \
'--dry-run[Say what would be done, and change nothing]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
':role -- Whose daemon:(edge cloud)' \
&& ret=0
;;
(stop)
_arguments "${_arguments_options[@]}" : \
'--dry-run[Say what would be done, and change nothing]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
':role -- Whose daemon:(edge cloud)' \
&& ret=0
;;
(restart)
_arguments "${_arguments_options[@]}" : \
'--dry-run[Say what would be done, and change nothing]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
':role -- Whose daemon:(edge cloud)' \
&& ret=0
;;
(install)
_arguments "${_arguments_options[@]}" : \
'--config=[The daemon'\''s configuration file \[default\: its usual place below /etc/kubeedge/config\]]:FILE:_files' \
'--print=[Only print what this service manager would read]:MANAGER:((systemd\:""
openrc\:""
plain\:"None\: kedge keeps its daemon itself, until the machine'\''s restart"))' \
'--dry-run[Say what would be done, and change nothing]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':role -- Whose daemon:(edge cloud)' \
&& ret=0
;;
(remove)
_arguments "${_arguments_options[@]}" : \
'--dry-run[Say what would be done, and change nothing]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
':role -- Whose daemon:(edge cloud)' \
&& ret=0
;;
(keep)
_arguments "${_arguments_options[@]}" : \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
':name -- Name of the service:_default' \
&& ret=0
;;
        esac
    ;;
esac
;;
(status)
_arguments "${_arguments_options[@]}" : \
'--socket=[The daemon'\''s socket; found below the data directory when not given]:FILE:_files' \
'--db=[The database file; also one of a genuine edgecore]:FILE:_files' \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'-o+[Form of the output]:OUTPUT:(text json yaml)' \
'--output=[Form of the output]:OUTPUT:(text json yaml)' \
'-w[Show it anew every two seconds until interrupted]' \
'--watch[Show it anew every two seconds until interrupted]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(token)
_arguments "${_arguments_options[@]}" : \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
":: :_kedge__subcmd__token_commands" \
"*::: :->token" \
&& ret=0

    case $state in
    (token)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:kedge-token-command-$line[1]:"
        case $line[1] in
            (create)
_arguments "${_arguments_options[@]}" : \
'--kube-config=[The cluster'\''s kubeconfig \[default\: \$KUBECONFIG, that in the data directory, ~/.kube/config, that of this machine'\''s cloud\]]:FILE:_files' \
'--kubeconfig=[The cluster'\''s kubeconfig \[default\: \$KUBECONFIG, that in the data directory, ~/.kube/config, that of this machine'\''s cloud\]]:FILE:_files' \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'--ttl=[How long it is valid, such as 30m or 24h]:TIME:_default' \
'--uses=[How many machines may join with it; one that has joined may do so again \[default\: any number\]]:N:_default' \
'--node=[The only node that may join with it]:NAME:_default' \
'--join-file=[Write all that a machine needs to join to this file, for its owner only, instead of printing the token]:FILE:_files' \
'(--node --join-file)--nodes=[Make one join file for each line \`name\[,label=value;label=value\]\` of this file]:FILE:_files' \
'--out=[Where the join files of --nodes go]:DIR:_files' \
'*-l+[A label of the node, for the join file; may be repeated]:NAME=VALUE:_default' \
'*--label=[A label of the node, for the join file; may be repeated]:NAME=VALUE:_default' \
'*--cloud=[Addresses of the cloud for the join file \[default\: those that the cluster knows\]]:ADDRESS:_default' \
'--hub-port=[Port of the cloud'\''s WebSocket, for the join file]:PORT:_default' \
'--cert-port=[Port of the cloud'\''s certificate service, for the join file]:PORT:_default' \
'--tunnel-port=[Port of the cloud'\''s tunnel, for the join file]:PORT:_default' \
'-o+[Form in which tokens and names of files are shown]:OUTPUT:(text json yaml)' \
'--output=[Form in which tokens and names of files are shown]:OUTPUT:(text json yaml)' \
'--takeover[Let another machine take this node'\''s name with it]' \
'--replace[Write join files anew that are there, and revoke the tokens in them]' \
'--dry-run[Check, and change nothing]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(list)
_arguments "${_arguments_options[@]}" : \
'--kube-config=[The cluster'\''s kubeconfig \[default\: \$KUBECONFIG, that in the data directory, ~/.kube/config, that of this machine'\''s cloud\]]:FILE:_files' \
'--kubeconfig=[The cluster'\''s kubeconfig \[default\: \$KUBECONFIG, that in the data directory, ~/.kube/config, that of this machine'\''s cloud\]]:FILE:_files' \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'-o+[How to print the list]:OUTPUT:(text json yaml)' \
'--output=[How to print the list]:OUTPUT:(text json yaml)' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(revoke)
_arguments "${_arguments_options[@]}" : \
'--kube-config=[The cluster'\''s kubeconfig \[default\: \$KUBECONFIG, that in the data directory, ~/.kube/config, that of this machine'\''s cloud\]]:FILE:_files' \
'--kubeconfig=[The cluster'\''s kubeconfig \[default\: \$KUBECONFIG, that in the data directory, ~/.kube/config, that of this machine'\''s cloud\]]:FILE:_files' \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'--dry-run[Check, and change nothing]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
':id -- The token'\''s id, as `kedge token list` shows it:_default' \
&& ret=0
;;
        esac
    ;;
esac
;;
(twin)
_arguments "${_arguments_options[@]}" : \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
":: :_kedge__subcmd__twin_commands" \
"*::: :->twin" \
&& ret=0

    case $state in
    (twin)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:kedge-twin-command-$line[1]:"
        case $line[1] in
            (list)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'--kube-config=[Ask the Kubernetes API of this kubeconfig instead of this node'\''s store]:FILE:_files' \
'-o+[Form of the output]:OUTPUT:(text json yaml)' \
'--output=[Form of the output]:OUTPUT:(text json yaml)' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(get)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'--kube-config=[Ask the Kubernetes API of this kubeconfig instead of this node'\''s store]:FILE:_files' \
'-o+[Form of the output]:OUTPUT:(text json yaml)' \
'--output=[Form of the output]:OUTPUT:(text json yaml)' \
'(--kube-config)--trace[Show the way of the values hop by hop, and the first broken one; exit status 1 when one is]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
':device -- The device\: NAME or NAMESPACE/NAME:_default' \
'::property -- One property:_default' \
&& ret=0
;;
(set)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'--kube-config=[Ask the Kubernetes API of this kubeconfig instead of this node'\''s store]:FILE:_files' \
'--dry-run[Check, and change nothing]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
':device -- The device\: NAME or NAMESPACE/NAME:_default' \
':assignment -- The property and its desired value:_default' \
&& ret=0
;;
(watch)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'--kube-config=[Ask the Kubernetes API of this kubeconfig instead of this node'\''s store]:FILE:_files' \
'-o+[Form of the output]:OUTPUT:(text json yaml)' \
'--output=[Form of the output]:OUTPUT:(text json yaml)' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
'::device -- The device\: NAME or NAMESPACE/NAME; all when left out:_default' \
&& ret=0
;;
        esac
    ;;
esac
;;
(undo)
_arguments "${_arguments_options[@]}" : \
'-o+[Form of the output]:OUTPUT:(text json yaml)' \
'--output=[Form of the output]:OUTPUT:(text json yaml)' \
'--list[List what can be taken back, and change nothing]' \
'--dry-run[Show what would be taken back, and change nothing]' \
'-y[Do not ask]' \
'--yes[Do not ask]' \
'--force[Also where somebody else has changed it since]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::deed -- Everything of this kind; the newest deed when left out:((fix\:"Repairs of \`kedge doctor --fix\`"
configure\:"Settings of \`kedge config set\`"))' \
&& ret=0
;;
(up)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where \`kedge up\` keeps everything]:DIR:_files' \
'--node=[Name of this machine as a node \[default\: its host name\]]:NAME:_default' \
'--api-port=[Port of the Kubernetes API]:PORT:_default' \
'--hub-port=[Port of the cloud'\''s WebSocket]:PORT:_default' \
'--cert-port=[Port of the cloud'\''s certificate service]:PORT:_default' \
'--tunnel-port=[Port of the cloud'\''s tunnel]:PORT:_default' \
'--stream-port=[Port of the cloud'\''s kubelet API]:PORT:_default' \
'--mqtt-port=[Port of the MQTT broker]:PORT:_default' \
'--demo[Also apply a demo Deployment and a simulated thermometer]' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(version)
_arguments "${_arguments_options[@]}" : \
'-o+[Form of the output]:OUTPUT:(text json yaml)' \
'--output=[Form of the output]:OUTPUT:(text json yaml)' \
'-q[Print nothing but data and errors]' \
'--quiet[Print nothing but data and errors]' \
'--plain[No colour and no spinner, even on a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
        esac
    ;;
esac
}

(( $+functions[_kedge_commands] )) ||
_kedge_commands() {
    local commands; commands=(
'bugreport:Write an archive for the developers\: configuration, status, checks, logs, store summary; never keys or Secrets' \
'bundle:Pack the binary, images and a join file into one file for a machine without a network' \
'cert:Show certificates, renew the node'\''s, print the authority' \
'cloud:Run the cloud daemon or show its configuration' \
'completion:Print the completion script of a shell' \
'config:Show, change and check edgecore.yaml and cloudcore.yaml' \
'device:List devices, or play one' \
'doctor:Look for what is wrong on this machine, and say how to mend it' \
'edge:Run the edge daemon, show its configuration, change its version' \
'exec:Run a command in a container of this node' \
'explain:Explain an error code, or list all of them' \
'gettoken:Print the cluster-wide join token, as \`keadm gettoken\` does' \
'help:Show help on a topic or a command' \
'init:Set up the control plane in a Kubernetes cluster or on this machine' \
'join:Make this machine an edge node of a cloud' \
'man:Print a manual page, or write all of them into a directory' \
'limits:Show the limits of this version, and what happens beyond them' \
'logs:Show what a container of this node has written' \
'meta:Show the objects that this node keeps' \
'pods:Show the pods of this node' \
'reset:Undo what kedge did to this machine' \
'service:Install, start, stop and remove kedge'\''s daemons as services of this machine' \
'status:Show the state of the daemons on this machine; exit status 1 when something is degraded, 4 when none runs' \
'token:Create, list and revoke join tokens' \
'twin:Show and set the properties of devices' \
'undo:Take back what kedge has changed on this machine, the newest first' \
'up:Run everything on this machine\: Kubernetes API, cloud, edge node, MQTT broker' \
'version:Show the version of this binary' \
    )
    _describe -t commands 'kedge commands' commands "$@"
}
(( $+functions[_kedge__subcmd__bugreport_commands] )) ||
_kedge__subcmd__bugreport_commands() {
    local commands; commands=()
    _describe -t commands 'kedge bugreport commands' commands "$@"
}
(( $+functions[_kedge__subcmd__bundle_commands] )) ||
_kedge__subcmd__bundle_commands() {
    local commands; commands=()
    _describe -t commands 'kedge bundle commands' commands "$@"
}
(( $+functions[_kedge__subcmd__cert_commands] )) ||
_kedge__subcmd__cert_commands() {
    local commands; commands=(
'list:List certificates with names, days left and fingerprints; exit status 1 when one ends within 7 days' \
'renew:Get the node'\''s next certificate now, with the present one' \
'ca:Print the authority'\''s certificate; its hash is what a join token holds' \
    )
    _describe -t commands 'kedge cert commands' commands "$@"
}
(( $+functions[_kedge__subcmd__cert__subcmd__ca_commands] )) ||
_kedge__subcmd__cert__subcmd__ca_commands() {
    local commands; commands=()
    _describe -t commands 'kedge cert ca commands' commands "$@"
}
(( $+functions[_kedge__subcmd__cert__subcmd__list_commands] )) ||
_kedge__subcmd__cert__subcmd__list_commands() {
    local commands; commands=()
    _describe -t commands 'kedge cert list commands' commands "$@"
}
(( $+functions[_kedge__subcmd__cert__subcmd__renew_commands] )) ||
_kedge__subcmd__cert__subcmd__renew_commands() {
    local commands; commands=()
    _describe -t commands 'kedge cert renew commands' commands "$@"
}
(( $+functions[_kedge__subcmd__cloud_commands] )) ||
_kedge__subcmd__cloud_commands() {
    local commands; commands=(
'run:Run the cloud daemon in the foreground' \
'config:Print a cloudcore.yaml to start from' \
'forward:Lead this machine'\''s API server to edge nodes, for \`kubectl logs\` and \`exec\`' \
'reset:Take the control plane out of a cluster and off this machine' \
    )
    _describe -t commands 'kedge cloud commands' commands "$@"
}
(( $+functions[_kedge__subcmd__cloud__subcmd__config_commands] )) ||
_kedge__subcmd__cloud__subcmd__config_commands() {
    local commands; commands=()
    _describe -t commands 'kedge cloud config commands' commands "$@"
}
(( $+functions[_kedge__subcmd__cloud__subcmd__forward_commands] )) ||
_kedge__subcmd__cloud__subcmd__forward_commands() {
    local commands; commands=()
    _describe -t commands 'kedge cloud forward commands' commands "$@"
}
(( $+functions[_kedge__subcmd__cloud__subcmd__reset_commands] )) ||
_kedge__subcmd__cloud__subcmd__reset_commands() {
    local commands; commands=()
    _describe -t commands 'kedge cloud reset commands' commands "$@"
}
(( $+functions[_kedge__subcmd__cloud__subcmd__run_commands] )) ||
_kedge__subcmd__cloud__subcmd__run_commands() {
    local commands; commands=()
    _describe -t commands 'kedge cloud run commands' commands "$@"
}
(( $+functions[_kedge__subcmd__completion_commands] )) ||
_kedge__subcmd__completion_commands() {
    local commands; commands=()
    _describe -t commands 'kedge completion commands' commands "$@"
}
(( $+functions[_kedge__subcmd__config_commands] )) ||
_kedge__subcmd__config_commands() {
    local commands; commands=(
'set:Change settings (KEY+=VALUE adds to a list); comments stay, the former file is kept for \`kedge undo\`' \
'get:Show settings, those that the file leaves out with their defaults' \
'validate:Check files as a daemon would at its start; exit status 3 when one is not fit' \
    )
    _describe -t commands 'kedge config commands' commands "$@"
}
(( $+functions[_kedge__subcmd__config__subcmd__get_commands] )) ||
_kedge__subcmd__config__subcmd__get_commands() {
    local commands; commands=()
    _describe -t commands 'kedge config get commands' commands "$@"
}
(( $+functions[_kedge__subcmd__config__subcmd__set_commands] )) ||
_kedge__subcmd__config__subcmd__set_commands() {
    local commands; commands=()
    _describe -t commands 'kedge config set commands' commands "$@"
}
(( $+functions[_kedge__subcmd__config__subcmd__validate_commands] )) ||
_kedge__subcmd__config__subcmd__validate_commands() {
    local commands; commands=()
    _describe -t commands 'kedge config validate commands' commands "$@"
}
(( $+functions[_kedge__subcmd__device_commands] )) ||
_kedge__subcmd__device_commands() {
    local commands; commands=(
'list:List the devices of this node, or of the cluster' \
'describe:Show everything that is known of a device' \
'simulate:Play a thermometer over MQTT until interrupted' \
    )
    _describe -t commands 'kedge device commands' commands "$@"
}
(( $+functions[_kedge__subcmd__device__subcmd__describe_commands] )) ||
_kedge__subcmd__device__subcmd__describe_commands() {
    local commands; commands=()
    _describe -t commands 'kedge device describe commands' commands "$@"
}
(( $+functions[_kedge__subcmd__device__subcmd__list_commands] )) ||
_kedge__subcmd__device__subcmd__list_commands() {
    local commands; commands=()
    _describe -t commands 'kedge device list commands' commands "$@"
}
(( $+functions[_kedge__subcmd__device__subcmd__simulate_commands] )) ||
_kedge__subcmd__device__subcmd__simulate_commands() {
    local commands; commands=()
    _describe -t commands 'kedge device simulate commands' commands "$@"
}
(( $+functions[_kedge__subcmd__doctor_commands] )) ||
_kedge__subcmd__doctor_commands() {
    local commands; commands=(
'offline:Prove which pods would start with no cloud' \
    )
    _describe -t commands 'kedge doctor commands' commands "$@"
}
(( $+functions[_kedge__subcmd__doctor__subcmd__offline_commands] )) ||
_kedge__subcmd__doctor__subcmd__offline_commands() {
    local commands; commands=()
    _describe -t commands 'kedge doctor offline commands' commands "$@"
}
(( $+functions[_kedge__subcmd__edge_commands] )) ||
_kedge__subcmd__edge_commands() {
    local commands; commands=(
'run:Run the edge daemon in the foreground' \
'config:Print an edgecore.yaml to start from' \
'launch:Run the edge daemon in the version that is current, as the service does' \
'upgrade:Upgrade this node to another version of kedge' \
'rollback:Go back to the version of kedge that ran before' \
'backup:Back up the node'\''s database and configuration' \
'history:Show the upgrades of this node, their steps and how they ended' \
    )
    _describe -t commands 'kedge edge commands' commands "$@"
}
(( $+functions[_kedge__subcmd__edge__subcmd__backup_commands] )) ||
_kedge__subcmd__edge__subcmd__backup_commands() {
    local commands; commands=()
    _describe -t commands 'kedge edge backup commands' commands "$@"
}
(( $+functions[_kedge__subcmd__edge__subcmd__config_commands] )) ||
_kedge__subcmd__edge__subcmd__config_commands() {
    local commands; commands=()
    _describe -t commands 'kedge edge config commands' commands "$@"
}
(( $+functions[_kedge__subcmd__edge__subcmd__history_commands] )) ||
_kedge__subcmd__edge__subcmd__history_commands() {
    local commands; commands=()
    _describe -t commands 'kedge edge history commands' commands "$@"
}
(( $+functions[_kedge__subcmd__edge__subcmd__launch_commands] )) ||
_kedge__subcmd__edge__subcmd__launch_commands() {
    local commands; commands=()
    _describe -t commands 'kedge edge launch commands' commands "$@"
}
(( $+functions[_kedge__subcmd__edge__subcmd__rollback_commands] )) ||
_kedge__subcmd__edge__subcmd__rollback_commands() {
    local commands; commands=()
    _describe -t commands 'kedge edge rollback commands' commands "$@"
}
(( $+functions[_kedge__subcmd__edge__subcmd__run_commands] )) ||
_kedge__subcmd__edge__subcmd__run_commands() {
    local commands; commands=()
    _describe -t commands 'kedge edge run commands' commands "$@"
}
(( $+functions[_kedge__subcmd__edge__subcmd__upgrade_commands] )) ||
_kedge__subcmd__edge__subcmd__upgrade_commands() {
    local commands; commands=(
'confirm:Agree to the upgrade of the cloud that waits on this node' \
    )
    _describe -t commands 'kedge edge upgrade commands' commands "$@"
}
(( $+functions[_kedge__subcmd__edge__subcmd__upgrade__subcmd__confirm_commands] )) ||
_kedge__subcmd__edge__subcmd__upgrade__subcmd__confirm_commands() {
    local commands; commands=()
    _describe -t commands 'kedge edge upgrade confirm commands' commands "$@"
}
(( $+functions[_kedge__subcmd__exec_commands] )) ||
_kedge__subcmd__exec_commands() {
    local commands; commands=()
    _describe -t commands 'kedge exec commands' commands "$@"
}
(( $+functions[_kedge__subcmd__explain_commands] )) ||
_kedge__subcmd__explain_commands() {
    local commands; commands=()
    _describe -t commands 'kedge explain commands' commands "$@"
}
(( $+functions[_kedge__subcmd__gettoken_commands] )) ||
_kedge__subcmd__gettoken_commands() {
    local commands; commands=()
    _describe -t commands 'kedge gettoken commands' commands "$@"
}
(( $+functions[_kedge__subcmd__help_commands] )) ||
_kedge__subcmd__help_commands() {
    local commands; commands=()
    _describe -t commands 'kedge help commands' commands "$@"
}
(( $+functions[_kedge__subcmd__init_commands] )) ||
_kedge__subcmd__init_commands() {
    local commands; commands=()
    _describe -t commands 'kedge init commands' commands "$@"
}
(( $+functions[_kedge__subcmd__join_commands] )) ||
_kedge__subcmd__join_commands() {
    local commands; commands=()
    _describe -t commands 'kedge join commands' commands "$@"
}
(( $+functions[_kedge__subcmd__limits_commands] )) ||
_kedge__subcmd__limits_commands() {
    local commands; commands=()
    _describe -t commands 'kedge limits commands' commands "$@"
}
(( $+functions[_kedge__subcmd__logs_commands] )) ||
_kedge__subcmd__logs_commands() {
    local commands; commands=()
    _describe -t commands 'kedge logs commands' commands "$@"
}
(( $+functions[_kedge__subcmd__man_commands] )) ||
_kedge__subcmd__man_commands() {
    local commands; commands=()
    _describe -t commands 'kedge man commands' commands "$@"
}
(( $+functions[_kedge__subcmd__meta_commands] )) ||
_kedge__subcmd__meta_commands() {
    local commands; commands=(
'list:List the objects by key' \
'get:Show one object' \
'export:Write everything that is stored, devices and twins included, in one document; data of Secrets is hidden' \
    )
    _describe -t commands 'kedge meta commands' commands "$@"
}
(( $+functions[_kedge__subcmd__meta__subcmd__export_commands] )) ||
_kedge__subcmd__meta__subcmd__export_commands() {
    local commands; commands=()
    _describe -t commands 'kedge meta export commands' commands "$@"
}
(( $+functions[_kedge__subcmd__meta__subcmd__get_commands] )) ||
_kedge__subcmd__meta__subcmd__get_commands() {
    local commands; commands=()
    _describe -t commands 'kedge meta get commands' commands "$@"
}
(( $+functions[_kedge__subcmd__meta__subcmd__list_commands] )) ||
_kedge__subcmd__meta__subcmd__list_commands() {
    local commands; commands=()
    _describe -t commands 'kedge meta list commands' commands "$@"
}
(( $+functions[_kedge__subcmd__pods_commands] )) ||
_kedge__subcmd__pods_commands() {
    local commands; commands=()
    _describe -t commands 'kedge pods commands' commands "$@"
}
(( $+functions[_kedge__subcmd__reset_commands] )) ||
_kedge__subcmd__reset_commands() {
    local commands; commands=(
'edge:Take this machine out of its cloud, as it was before \`kedge join\`' \
'cloud:Take the control plane out of a cluster and off this machine' \
    )
    _describe -t commands 'kedge reset commands' commands "$@"
}
(( $+functions[_kedge__subcmd__reset__subcmd__cloud_commands] )) ||
_kedge__subcmd__reset__subcmd__cloud_commands() {
    local commands; commands=()
    _describe -t commands 'kedge reset cloud commands' commands "$@"
}
(( $+functions[_kedge__subcmd__reset__subcmd__edge_commands] )) ||
_kedge__subcmd__reset__subcmd__edge_commands() {
    local commands; commands=()
    _describe -t commands 'kedge reset edge commands' commands "$@"
}
(( $+functions[_kedge__subcmd__service_commands] )) ||
_kedge__subcmd__service_commands() {
    local commands; commands=(
'status:Show which of kedge'\''s services are installed, start with the machine, and run' \
'start:Start a service' \
'stop:Stop a service; containers run on' \
'restart:Stop a service where it runs, and start it; containers run on' \
'install:Have a daemon start with this machine, and start it' \
'remove:Undo \`kedge service install\`' \
'keep:' \
    )
    _describe -t commands 'kedge service commands' commands "$@"
}
(( $+functions[_kedge__subcmd__service__subcmd__install_commands] )) ||
_kedge__subcmd__service__subcmd__install_commands() {
    local commands; commands=()
    _describe -t commands 'kedge service install commands' commands "$@"
}
(( $+functions[_kedge__subcmd__service__subcmd__keep_commands] )) ||
_kedge__subcmd__service__subcmd__keep_commands() {
    local commands; commands=()
    _describe -t commands 'kedge service keep commands' commands "$@"
}
(( $+functions[_kedge__subcmd__service__subcmd__remove_commands] )) ||
_kedge__subcmd__service__subcmd__remove_commands() {
    local commands; commands=()
    _describe -t commands 'kedge service remove commands' commands "$@"
}
(( $+functions[_kedge__subcmd__service__subcmd__restart_commands] )) ||
_kedge__subcmd__service__subcmd__restart_commands() {
    local commands; commands=()
    _describe -t commands 'kedge service restart commands' commands "$@"
}
(( $+functions[_kedge__subcmd__service__subcmd__start_commands] )) ||
_kedge__subcmd__service__subcmd__start_commands() {
    local commands; commands=()
    _describe -t commands 'kedge service start commands' commands "$@"
}
(( $+functions[_kedge__subcmd__service__subcmd__status_commands] )) ||
_kedge__subcmd__service__subcmd__status_commands() {
    local commands; commands=()
    _describe -t commands 'kedge service status commands' commands "$@"
}
(( $+functions[_kedge__subcmd__service__subcmd__stop_commands] )) ||
_kedge__subcmd__service__subcmd__stop_commands() {
    local commands; commands=()
    _describe -t commands 'kedge service stop commands' commands "$@"
}
(( $+functions[_kedge__subcmd__status_commands] )) ||
_kedge__subcmd__status_commands() {
    local commands; commands=()
    _describe -t commands 'kedge status commands' commands "$@"
}
(( $+functions[_kedge__subcmd__token_commands] )) ||
_kedge__subcmd__token_commands() {
    local commands; commands=(
'create:Make a token and print it' \
'list:List the tokens that have not expired' \
'revoke:Make a token unusable' \
    )
    _describe -t commands 'kedge token commands' commands "$@"
}
(( $+functions[_kedge__subcmd__token__subcmd__create_commands] )) ||
_kedge__subcmd__token__subcmd__create_commands() {
    local commands; commands=()
    _describe -t commands 'kedge token create commands' commands "$@"
}
(( $+functions[_kedge__subcmd__token__subcmd__list_commands] )) ||
_kedge__subcmd__token__subcmd__list_commands() {
    local commands; commands=()
    _describe -t commands 'kedge token list commands' commands "$@"
}
(( $+functions[_kedge__subcmd__token__subcmd__revoke_commands] )) ||
_kedge__subcmd__token__subcmd__revoke_commands() {
    local commands; commands=()
    _describe -t commands 'kedge token revoke commands' commands "$@"
}
(( $+functions[_kedge__subcmd__twin_commands] )) ||
_kedge__subcmd__twin_commands() {
    local commands; commands=(
'list:List the properties of all devices' \
'get:Show the properties of a device, or one of them' \
'set:Set the desired value of a property' \
'watch:Follow changes until interrupted' \
    )
    _describe -t commands 'kedge twin commands' commands "$@"
}
(( $+functions[_kedge__subcmd__twin__subcmd__get_commands] )) ||
_kedge__subcmd__twin__subcmd__get_commands() {
    local commands; commands=()
    _describe -t commands 'kedge twin get commands' commands "$@"
}
(( $+functions[_kedge__subcmd__twin__subcmd__list_commands] )) ||
_kedge__subcmd__twin__subcmd__list_commands() {
    local commands; commands=()
    _describe -t commands 'kedge twin list commands' commands "$@"
}
(( $+functions[_kedge__subcmd__twin__subcmd__set_commands] )) ||
_kedge__subcmd__twin__subcmd__set_commands() {
    local commands; commands=()
    _describe -t commands 'kedge twin set commands' commands "$@"
}
(( $+functions[_kedge__subcmd__twin__subcmd__watch_commands] )) ||
_kedge__subcmd__twin__subcmd__watch_commands() {
    local commands; commands=()
    _describe -t commands 'kedge twin watch commands' commands "$@"
}
(( $+functions[_kedge__subcmd__undo_commands] )) ||
_kedge__subcmd__undo_commands() {
    local commands; commands=()
    _describe -t commands 'kedge undo commands' commands "$@"
}
(( $+functions[_kedge__subcmd__up_commands] )) ||
_kedge__subcmd__up_commands() {
    local commands; commands=()
    _describe -t commands 'kedge up commands' commands "$@"
}
(( $+functions[_kedge__subcmd__version_commands] )) ||
_kedge__subcmd__version_commands() {
    local commands; commands=()
    _describe -t commands 'kedge version commands' commands "$@"
}

if [ "$funcstack[1]" = "_kedge" ]; then
    _kedge "$@"
else
    compdef _kedge kedge
fi
