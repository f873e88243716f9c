# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_kedge_global_optspecs
    string join \n q/quiet plain h/help V/version
end

function __fish_kedge_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_kedge_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_kedge_using_subcommand
    set -l cmd (__fish_kedge_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c kedge -n "__fish_kedge_needs_command" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_needs_command" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_needs_command" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_needs_command" -s V -l version -d 'Print version'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "bugreport" -d 'Write an archive for the developers: configuration, status, checks, logs, store summary; never keys or Secrets'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "bundle" -d 'Pack the binary, images and a join file into one file for a machine without a network'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "cert" -d 'Show certificates, renew the node\'s, print the authority'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "cloud" -d 'Run the cloud daemon or show its configuration'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "completion" -d 'Print the completion script of a shell'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "config" -d 'Show, change and check edgecore.yaml and cloudcore.yaml'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "device" -d 'List devices, or play one'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "doctor" -d 'Look for what is wrong on this machine, and say how to mend it'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "edge" -d 'Run the edge daemon, show its configuration, change its version'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "exec" -d 'Run a command in a container of this node'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "explain" -d 'Explain an error code, or list all of them'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "gettoken" -d 'Print the cluster-wide join token, as `keadm gettoken` does'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "help" -d 'Show help on a topic or a command'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "init" -d 'Set up the control plane in a Kubernetes cluster or on this machine'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "join" -d 'Make this machine an edge node of a cloud'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "man" -d 'Print a manual page, or write all of them into a directory'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "limits" -d 'Show the limits of this version, and what happens beyond them'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "logs" -d 'Show what a container of this node has written'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "meta" -d 'Show the objects that this node keeps'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "pods" -d 'Show the pods of this node'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "reset" -d 'Undo what kedge did to this machine'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "service" -d 'Install, start, stop and remove kedge\'s daemons as services of this machine'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "status" -d 'Show the state of the daemons on this machine; exit status 1 when something is degraded, 4 when none runs'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "token" -d 'Create, list and revoke join tokens'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "twin" -d 'Show and set the properties of devices'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "undo" -d 'Take back what kedge has changed on this machine, the newest first'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "up" -d 'Run everything on this machine: Kubernetes API, cloud, edge node, MQTT broker'
complete -c kedge -n "__fish_kedge_needs_command" -f -a "version" -d 'Show the version of this binary'
complete -c kedge -n "__fish_kedge_using_subcommand bugreport" -s F -l file -d 'The archive to write [default: kedge-bugreport-TIME.tar in this directory]' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand bugreport" -l config -d 'The node\'s edgecore.yaml; else the data directory, else the usual file is looked at' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand bugreport" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand bugreport" -s o -l output -d 'Form of the list' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand bugreport" -l dry-run -d 'List what would be in the archive, and write none'
complete -c kedge -n "__fish_kedge_using_subcommand bugreport" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand bugreport" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand bugreport" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand bundle" -s o -l output -d 'The bundle to write' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand bundle" -l join-file -d 'The join file, as `kedge token create --join-file` writes it' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand bundle" -l image -d 'An archive of images, as `docker save` and `ctr images export` write it; may be repeated' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand bundle" -l binary -d 'The kedge to pack; for machines of another architecture [default: this one]' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand bundle" -l check -d 'Check a bundle and list its parts, and write none' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand bundle" -l load -d 'Load the images of a bundle into this machine\'s container runtime' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand bundle" -l runtime-endpoint -d 'The container runtime that gets them' -r
complete -c kedge -n "__fish_kedge_using_subcommand bundle" -l form -d 'Form of the list' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand bundle" -l dry-run -d 'Check everything that would be packed, and write nothing'
complete -c kedge -n "__fish_kedge_using_subcommand bundle" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand bundle" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand bundle" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand cert; and not __fish_seen_subcommand_from list renew ca" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand cert; and not __fish_seen_subcommand_from list renew ca" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand cert; and not __fish_seen_subcommand_from list renew ca" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand cert; and not __fish_seen_subcommand_from list renew ca" -f -a "list" -d 'List certificates with names, days left and fingerprints; exit status 1 when one ends within 7 days'
complete -c kedge -n "__fish_kedge_using_subcommand cert; and not __fish_seen_subcommand_from list renew ca" -f -a "renew" -d 'Get the node\'s next certificate now, with the present one'
complete -c kedge -n "__fish_kedge_using_subcommand cert; and not __fish_seen_subcommand_from list renew ca" -f -a "ca" -d 'Print the authority\'s certificate; its hash is what a join token holds'
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from list" -l config -d 'The node\'s edgecore.yaml; else the data directory, else the usual file is looked at' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from list" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from list" -l kube-config -l kubeconfig -d 'The cluster\'s kubeconfig, for the cloud\'s certificates [default: the one in the data directory; where no node is, also $KUBECONFIG, ~/.kube/config and that of this machine\'s cloud]' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from list" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from list" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from renew" -l config -d 'The node\'s edgecore.yaml; else the data directory, else the usual file is looked at' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from renew" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from renew" -l cloud -d 'The cloud\'s certificate service; that of the configuration or the running daemon when left out' -r
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from renew" -s o -l output -d 'Form in which the outcome is shown' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from renew" -l dry-run -d 'Check, and change nothing'
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from renew" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from renew" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from renew" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from ca" -l config -d 'The node\'s edgecore.yaml; else the data directory, else the usual file is looked at' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from ca" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from ca" -l kube-config -l kubeconfig -d 'The cluster\'s kubeconfig, for the cloud\'s certificates [default: the one in the data directory; where no node is, also $KUBECONFIG, ~/.kube/config and that of this machine\'s cloud]' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from ca" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from ca" -l hash -d 'Print the hash alone'
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from ca" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from ca" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand cert; and __fish_seen_subcommand_from ca" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and not __fish_seen_subcommand_from run config forward reset" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and not __fish_seen_subcommand_from run config forward reset" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and not __fish_seen_subcommand_from run config forward reset" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and not __fish_seen_subcommand_from run config forward reset" -f -a "run" -d 'Run the cloud daemon in the foreground'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and not __fish_seen_subcommand_from run config forward reset" -f -a "config" -d 'Print a cloudcore.yaml to start from'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and not __fish_seen_subcommand_from run config forward reset" -f -a "forward" -d 'Lead this machine\'s API server to edge nodes, for `kubectl logs` and `exec`'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and not __fish_seen_subcommand_from run config forward reset" -f -a "reset" -d 'Take the control plane out of a cluster and off this machine'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from run" -l config -d 'The configuration file; without one and with --embedded, defaults are used' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from run" -l log-format -d 'Form of the log on stderr' -r -f -a "text\t''
json\t''"
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from run" -l log-level -d '`error`, `warn`, `info`, `debug`, `trace`, or a filter' -r
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from run" -l data-dir -d 'Keep everything below this directory, on loopback, as `kedge up` does; implies --embedded' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from run" -l api-port -d 'Port of the Kubernetes API' -r
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from run" -l hub-port -d 'Port of the cloud\'s WebSocket' -r
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from run" -l cert-port -d 'Port of the cloud\'s certificate service' -r
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from run" -l tunnel-port -d 'Port of the cloud\'s tunnel' -r
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from run" -l stream-port -d 'Port of the cloud\'s kubelet API' -r
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from run" -l embedded -d 'Serve the Kubernetes API from this process'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from run" -l dry-run -d 'Check the configuration and end'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from run" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from run" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from run" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from config" -l defaultconfig -d 'Every key with its default'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from config" -l minconfig -d 'Only the keys that people usually change (the default)'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from config" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from config" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from config" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from forward" -l kube-config -l kubeconfig -d 'The cluster\'s kubeconfig [default: $KUBECONFIG, then ~/.kube/config, then the pod\'s account]' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from forward" -l server -d 'The URL of the cluster\'s API, where nothing else tells it' -r
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from forward" -l forward-port -d 'The port at which every cloud serves the kubelet API (modules.cloudStream.streamPort)' -r
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from forward" -l host-root -d 'Where the machine\'s file system is mounted, in a pod: the machine\'s own iptables is run there' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from forward" -l log-format -d 'Form of the log on stderr' -r -f -a "text\t''
json\t''"
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from forward" -l log-level -d '`error`, `warn`, `info`, `debug`, `trace`, or a filter' -r
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from forward" -l dry-run -d 'Show the rules that the record asks for and end'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from forward" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from forward" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from forward" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from reset" -l kube-config -l kubeconfig -d 'The cluster\'s kubeconfig [default: $KUBECONFIG, then ~/.kube/config]' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from reset" -l yes-i-mean -l cluster-name -d 'The cluster\'s name, as the kubeconfig has it; without it, it is asked for' -r
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from reset" -s o -l output -d 'Form in which the outcome is shown' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from reset" -l purge -d 'Also remove definitions with the objects under them, and a namespace that others use'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from reset" -l force -d 'Put back on this machine what others have changed since'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from reset" -l dry-run -d 'List what would be removed, and change nothing'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from reset" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from reset" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand cloud; and __fish_seen_subcommand_from reset" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand completion" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand completion" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand completion" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand config; and not __fish_seen_subcommand_from set get validate" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand config; and not __fish_seen_subcommand_from set get validate" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand config; and not __fish_seen_subcommand_from set get validate" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand config; and not __fish_seen_subcommand_from set get validate" -f -a "set" -d 'Change settings (KEY+=VALUE adds to a list); comments stay, the former file is kept for `kedge undo`'
complete -c kedge -n "__fish_kedge_using_subcommand config; and not __fish_seen_subcommand_from set get validate" -f -a "get" -d 'Show settings, those that the file leaves out with their defaults'
complete -c kedge -n "__fish_kedge_using_subcommand config; and not __fish_seen_subcommand_from set get validate" -f -a "validate" -d 'Check files as a daemon would at its start; exit status 3 when one is not fit'
complete -c kedge -n "__fish_kedge_using_subcommand config; and __fish_seen_subcommand_from set" -l config -d 'The file [default: edgecore.yaml or cloudcore.yaml in /etc/kubeedge/config]' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand config; and __fish_seen_subcommand_from set" -l role -d 'Whose configuration it is; the file\'s kind says so when left out' -r -f -a "edge\t''
cloud\t''"
complete -c kedge -n "__fish_kedge_using_subcommand config; and __fish_seen_subcommand_from set" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand config; and __fish_seen_subcommand_from set" -l dry-run -d 'Show what would change, and change nothing'
complete -c kedge -n "__fish_kedge_using_subcommand config; and __fish_seen_subcommand_from set" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand config; and __fish_seen_subcommand_from set" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand config; and __fish_seen_subcommand_from set" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand config; and __fish_seen_subcommand_from get" -l config -d 'The file [default: edgecore.yaml or cloudcore.yaml in /etc/kubeedge/config]' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand config; and __fish_seen_subcommand_from get" -l role -d 'Whose configuration it is; the file\'s kind says so when left out' -r -f -a "edge\t''
cloud\t''"
complete -c kedge -n "__fish_kedge_using_subcommand config; and __fish_seen_subcommand_from get" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand config; and __fish_seen_subcommand_from get" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand config; and __fish_seen_subcommand_from get" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand config; and __fish_seen_subcommand_from get" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand config; and __fish_seen_subcommand_from validate" -l config -d 'The file [default: edgecore.yaml or cloudcore.yaml in /etc/kubeedge/config]' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand config; and __fish_seen_subcommand_from validate" -l role -d 'Whose configuration it is; the file\'s kind says so when left out' -r -f -a "edge\t''
cloud\t''"
complete -c kedge -n "__fish_kedge_using_subcommand config; and __fish_seen_subcommand_from validate" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand config; and __fish_seen_subcommand_from validate" -l strict -d 'Count warnings, such as unknown keys, as problems'
complete -c kedge -n "__fish_kedge_using_subcommand config; and __fish_seen_subcommand_from validate" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand config; and __fish_seen_subcommand_from validate" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand config; and __fish_seen_subcommand_from validate" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand device; and not __fish_seen_subcommand_from list describe simulate" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand device; and not __fish_seen_subcommand_from list describe simulate" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand device; and not __fish_seen_subcommand_from list describe simulate" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand device; and not __fish_seen_subcommand_from list describe simulate" -f -a "list" -d 'List the devices of this node, or of the cluster'
complete -c kedge -n "__fish_kedge_using_subcommand device; and not __fish_seen_subcommand_from list describe simulate" -f -a "describe" -d 'Show everything that is known of a device'
complete -c kedge -n "__fish_kedge_using_subcommand device; and not __fish_seen_subcommand_from list describe simulate" -f -a "simulate" -d 'Play a thermometer over MQTT until interrupted'
complete -c kedge -n "__fish_kedge_using_subcommand device; and __fish_seen_subcommand_from list" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand device; and __fish_seen_subcommand_from list" -l kube-config -d 'Ask the Kubernetes API of this kubeconfig instead of this node\'s store' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand device; and __fish_seen_subcommand_from list" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand device; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand device; and __fish_seen_subcommand_from list" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand device; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand device; and __fish_seen_subcommand_from describe" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand device; and __fish_seen_subcommand_from describe" -l kube-config -d 'Ask the Kubernetes API of this kubeconfig instead of this node\'s store' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand device; and __fish_seen_subcommand_from describe" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand device; and __fish_seen_subcommand_from describe" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand device; and __fish_seen_subcommand_from describe" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand device; and __fish_seen_subcommand_from describe" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand device; and __fish_seen_subcommand_from simulate" -l device -d 'The device to play: NAME or NAMESPACE/NAME' -r
complete -c kedge -n "__fish_kedge_using_subcommand device; and __fish_seen_subcommand_from simulate" -l property -d 'The property that it measures' -r
complete -c kedge -n "__fish_kedge_using_subcommand device; and __fish_seen_subcommand_from simulate" -l interval -d 'Time between two reports, such as 500ms, 1s or 2m' -r
complete -c kedge -n "__fish_kedge_using_subcommand device; and __fish_seen_subcommand_from simulate" -l reports -d 'End after this many reports' -r
complete -c kedge -n "__fish_kedge_using_subcommand device; and __fish_seen_subcommand_from simulate" -l mqtt -d 'The broker; the one of this node\'s daemon when left out' -r
complete -c kedge -n "__fish_kedge_using_subcommand device; and __fish_seen_subcommand_from simulate" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand device; and __fish_seen_subcommand_from simulate" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand device; and __fish_seen_subcommand_from simulate" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand device; and __fish_seen_subcommand_from simulate" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and not __fish_seen_subcommand_from offline" -l role -d 'Which side of kedge to look at; found when not given' -r -f -a "edge\t''
cloud\t''"
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and not __fish_seen_subcommand_from offline" -l only -d 'Only these checks: codes, beginnings of codes, or groups' -r
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and not __fish_seen_subcommand_from offline" -l skip -d 'All but these checks' -r
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and not __fish_seen_subcommand_from offline" -l fix -d 'Mend what can be mended, or one code of it; shows what changes and asks first' -r
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and not __fish_seen_subcommand_from offline" -l config -d 'The configuration file; found when not given' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and not __fish_seen_subcommand_from offline" -l kube-config -d 'The cluster to look at with the role cloud' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and not __fish_seen_subcommand_from offline" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and not __fish_seen_subcommand_from offline" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
jsonl\t'One finding a line'
yaml\t''
junit\t''
short\t'Only what is not fine'"
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and not __fish_seen_subcommand_from offline" -l pre -d 'Only what a machine needs before kedge is on it'
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and not __fish_seen_subcommand_from offline" -l list -d 'List the checks and run none'
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and not __fish_seen_subcommand_from offline" -l strict -d 'Count warnings as failures, with exit status 3'
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and not __fish_seen_subcommand_from offline" -s y -l yes -d 'Mend without asking'
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and not __fish_seen_subcommand_from offline" -l dry-run -d 'Show what --fix would change, and change nothing'
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and not __fish_seen_subcommand_from offline" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and not __fish_seen_subcommand_from offline" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and not __fish_seen_subcommand_from offline" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and not __fish_seen_subcommand_from offline" -f -a "offline" -d 'Prove which pods would start with no cloud'
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and __fish_seen_subcommand_from offline" -l runtime-endpoint -d 'The container runtime\'s socket; found when not given' -r
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and __fish_seen_subcommand_from offline" -l db -d 'The database file; also one of a genuine edgecore' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and __fish_seen_subcommand_from offline" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and __fish_seen_subcommand_from offline" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and __fish_seen_subcommand_from offline" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and __fish_seen_subcommand_from offline" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand doctor; and __fish_seen_subcommand_from offline" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and not __fish_seen_subcommand_from run config launch upgrade rollback backup history" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and not __fish_seen_subcommand_from run config launch upgrade rollback backup history" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and not __fish_seen_subcommand_from run config launch upgrade rollback backup history" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and not __fish_seen_subcommand_from run config launch upgrade rollback backup history" -f -a "run" -d 'Run the edge daemon in the foreground'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and not __fish_seen_subcommand_from run config launch upgrade rollback backup history" -f -a "config" -d 'Print an edgecore.yaml to start from'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and not __fish_seen_subcommand_from run config launch upgrade rollback backup history" -f -a "launch" -d 'Run the edge daemon in the version that is current, as the service does'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and not __fish_seen_subcommand_from run config launch upgrade rollback backup history" -f -a "upgrade" -d 'Upgrade this node to another version of kedge'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and not __fish_seen_subcommand_from run config launch upgrade rollback backup history" -f -a "rollback" -d 'Go back to the version of kedge that ran before'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and not __fish_seen_subcommand_from run config launch upgrade rollback backup history" -f -a "backup" -d 'Back up the node\'s database and configuration'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and not __fish_seen_subcommand_from run config launch upgrade rollback backup history" -f -a "history" -d 'Show the upgrades of this node, their steps and how they ended'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from run" -l config -d 'The configuration file' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from run" -l data-dir -d 'Keep everything below this directory, as `kedge up` does, and read no configuration file' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from run" -l node -d 'Name of this machine as a node [default: its host name]' -r
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from run" -l cloud -d 'Host name or address of the cloud [default: 127.0.0.1]' -r
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from run" -l hub-port -d 'Port of the cloud\'s WebSocket' -r
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from run" -l cert-port -d 'Port of the cloud\'s certificate service' -r
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from run" -l tunnel-port -d 'Port of the cloud\'s tunnel' -r
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from run" -l mqtt-port -d 'Port of the MQTT broker on loopback [default: 1883]' -r
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from run" -l token -d 'Join token; needed until the node has a certificate' -r
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from run" -l log-format -d 'Form of the log on stderr' -r -f -a "text\t''
json\t''"
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from run" -l log-level -d '`error`, `warn`, `info`, `debug`, `trace`, or a filter' -r
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from run" -l dry-run -d 'Check the configuration and end'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from run" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from run" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from run" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from config" -l defaultconfig -d 'Every key with its default'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from config" -l minconfig -d 'Only the keys that differ from node to node (the default)'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from config" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from config" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from config" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from launch" -l config -d 'The edge daemon\'s configuration' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from launch" -l log-format -d 'Form of the log on stderr' -r -f -a "text\t''
json\t''"
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from launch" -l log-level -d '`error`, `warn`, `info`, `debug`, `trace`, or a filter' -r
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from launch" -l dry-run -d 'Check configuration and slots, say which version would run, and end'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from launch" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from launch" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from launch" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from upgrade" -l to -d 'The kedge binary of the new version, its signature beside it as FILE.sig; or a version, which the cloud hands out' -r
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from upgrade" -l nodes -d 'Upgrade these nodes of the cluster, not this machine' -r
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from upgrade" -l selector -d 'Upgrade the edge nodes with these labels, such as site=lab' -r
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from upgrade" -l max-unavailable -d 'Nodes that may be away at a time: a number, or a share such as 10%' -r
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from upgrade" -l failure-budget -d 'Nodes that may fail before no more waves begin' -r
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from upgrade" -l node-timeout -d 'How long a node may take for each step, such as 90s or 5m' -r
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from upgrade" -l kube-config -d 'The cluster [default: $KUBECONFIG or ~/.kube/config]' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from upgrade" -l config -d 'The edge daemon\'s configuration' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from upgrade" -l key -d 'The public key (PEM) that counts, instead of those in /etc/kubeedge/upgrade-keys' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from upgrade" -l digest -d 'The digest that the binary has to have' -r
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from upgrade" -l deadline -d 'How long the new version has to get ready, such as 90s or 5m' -r
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from upgrade" -s o -l output -d 'Form in which the outcome is shown' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from upgrade" -l wait -d 'Wait until the new version has proved good or the old one is back; nodes of the cluster are always waited for'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from upgrade" -l allow-downgrade -d 'Take a version that is older than what ran here'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from upgrade" -s y -l yes -d 'Ask nothing'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from upgrade" -l dry-run -d 'Check everything and change nothing'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from upgrade" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from upgrade" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from upgrade" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from upgrade" -f -a "confirm" -d 'Agree to the upgrade of the cloud that waits on this node'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from rollback" -l to -d 'The version to go back to [default: the one before]' -r
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from rollback" -l config -d 'The edge daemon\'s configuration' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from rollback" -s o -l output -d 'Form in which the outcome is shown' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from rollback" -l wait -d 'Wait until it has proved good or the present version is back'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from rollback" -s y -l yes -d 'Ask nothing'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from rollback" -l dry-run -d 'Check everything and change nothing'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from rollback" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from rollback" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from rollback" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from backup" -l config -d 'The edge daemon\'s configuration' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from backup" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from backup" -l list -d 'Show the backups that are there and make none'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from backup" -l dry-run -d 'Say what would be copied, and copy nothing'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from backup" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from backup" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from backup" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from history" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from history" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from history" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand edge; and __fish_seen_subcommand_from history" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand exec" -s n -l namespace -d 'The pod\'s namespace' -r
complete -c kedge -n "__fish_kedge_using_subcommand exec" -s c -l container -d 'The container; the only one when left out' -r
complete -c kedge -n "__fish_kedge_using_subcommand exec" -l runtime-endpoint -d 'The container runtime\'s socket; found when not given' -r
complete -c kedge -n "__fish_kedge_using_subcommand exec" -l db -d 'The database file; also one of a genuine edgecore' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand exec" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand exec" -s i -l stdin -d 'Pass standard input to the command'
complete -c kedge -n "__fish_kedge_using_subcommand exec" -s t -l tty -d 'Give the command a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand exec" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand exec" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand exec" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand explain" -l lang -d 'Language of the page; that of the environment (LC_ALL, LC_MESSAGES, LANG) when left out' -r -f -a "en\t'English'
zh\t'Chinese'"
complete -c kedge -n "__fish_kedge_using_subcommand explain" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand explain" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand explain" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kedge -n "__fish_kedge_using_subcommand gettoken" -l kube-config -l kubeconfig -d 'The cluster\'s kubeconfig [default: $KUBECONFIG, that in the data directory, ~/.kube/config, that of this machine\'s cloud]' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand gettoken" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand gettoken" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand gettoken" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand gettoken" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand help" -l lang -d 'Language of the topics; that of the environment (LC_ALL, LC_MESSAGES, LANG) when left out' -r -f -a "en\t'English'
zh\t'Chinese'"
complete -c kedge -n "__fish_kedge_using_subcommand help" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand help" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kedge -n "__fish_kedge_using_subcommand init" -l kube-config -l kubeconfig -d 'The cluster\'s kubeconfig [default: $KUBECONFIG, then ~/.kube/config]' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand init" -l advertise-address -d 'Addresses or names under which nodes reach the cloud, separated by commas' -r
complete -c kedge -n "__fish_kedge_using_subcommand init" -l mode -d 'Where the cloud runs: as a Deployment in the cluster, or as a service of this machine' -r -f -a "cluster\t''
host\t''"
complete -c kedge -n "__fish_kedge_using_subcommand init" -l set -d 'Settings of cloudcore.yaml, such as modules.cloudHub.nodeLimit=2000, over those made before; may be repeated' -r
complete -c kedge -n "__fish_kedge_using_subcommand init" -l ha -d 'Three replicas on three machines; --ha=false goes back to one [default: as it was, or one]' -r -f -a "true\t''
false\t''"
complete -c kedge -n "__fish_kedge_using_subcommand init" -l image -d 'The container image of the cloud [default: the one that was chosen before, or this version\'s]' -r
complete -c kedge -n "__fish_kedge_using_subcommand init" -l join-file -d 'Write a join file instead of printing a token; one that is still good stays, the token of any other is revoked' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand init" -l wait -d 'How long to wait until the cloud serves; 0 does not wait' -r
complete -c kedge -n "__fish_kedge_using_subcommand init" -s o -l output -d 'How to print what was done' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand init" -l keep-daemonsets-off-edge -d 'Keep DaemonSets of the cluster\'s own network off edge nodes'
complete -c kedge -n "__fish_kedge_using_subcommand init" -l force -d 'Take over fields that others manage, and go on beside a cloudcore'
complete -c kedge -n "__fish_kedge_using_subcommand init" -s d -l dry-run -d 'Look at everything, print what would be applied, and change nothing'
complete -c kedge -n "__fish_kedge_using_subcommand init" -s y -l yes -d 'Do not ask'
complete -c kedge -n "__fish_kedge_using_subcommand init" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand init" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand init" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand join" -s e -l cloudcore-ipport -d 'Address of the cloud\'s hub' -r
complete -c kedge -n "__fish_kedge_using_subcommand join" -s t -l token -d 'Join token of the cloud, as it is or in base64' -r
complete -c kedge -n "__fish_kedge_using_subcommand join" -s i -l edgenode-name -d 'Name of the node [default: the host name]' -r
complete -c kedge -n "__fish_kedge_using_subcommand join" -s s -l certport -d 'Port of the cloud\'s certificate service [default: 10002]' -r
complete -c kedge -n "__fish_kedge_using_subcommand join" -l join-file -d 'A file of `kedge token create --join-file` with address, token and labels' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand join" -l bundle -d 'A file of `kedge bundle`: its join file, its images and its kedge are used, and no network but the cloud\'s' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand join" -s p -l remote-runtime-endpoint -d 'Socket of the container runtime [default: the well-known one that answers]' -r
complete -c kedge -n "__fish_kedge_using_subcommand join" -l cgroupdriver -d 'Driver of control groups; auto asks the runtime' -r -f -a "auto\t''
cgroupfs\t''
systemd\t''"
complete -c kedge -n "__fish_kedge_using_subcommand join" -s l -l labels -d 'Labels of the node; may be repeated' -r
complete -c kedge -n "__fish_kedge_using_subcommand join" -l hub-protocol -d 'How the hub is reached' -r -f -a "auto\t''
websocket\t''
quic\t''"
complete -c kedge -n "__fish_kedge_using_subcommand join" -l set -d 'Set any key of edgecore.yaml; may be repeated' -r
complete -c kedge -n "__fish_kedge_using_subcommand join" -l timeout -d 'How long to wait until the node is Ready' -r
complete -c kedge -n "__fish_kedge_using_subcommand join" -s o -l output -d 'Form of the data: with json and yaml each milestone is an event, and the outcome is the last one' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand join" -l takeover -d 'Take the place of the edgecore on this machine, with its certificates, database and pods'
complete -c kedge -n "__fish_kedge_using_subcommand join" -l dry-run -d 'Show what would be done, and change nothing'
complete -c kedge -n "__fish_kedge_using_subcommand join" -s y -l yes -d 'Answer every question with yes'
complete -c kedge -n "__fish_kedge_using_subcommand join" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand join" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand join" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand man" -l dir -d 'Write all pages below this directory, in man1 and man7' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand man" -l dry-run -d 'List the files, and write none'
complete -c kedge -n "__fish_kedge_using_subcommand man" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand man" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand man" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand limits" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand limits" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand limits" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand limits" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand logs" -s n -l namespace -d 'The pod\'s namespace' -r
complete -c kedge -n "__fish_kedge_using_subcommand logs" -s c -l container -d 'The container; the only one when left out' -r
complete -c kedge -n "__fish_kedge_using_subcommand logs" -l tail -d 'Begin with the last N lines' -r
complete -c kedge -n "__fish_kedge_using_subcommand logs" -l runtime-endpoint -d 'The container runtime\'s socket; found when not given' -r
complete -c kedge -n "__fish_kedge_using_subcommand logs" -l db -d 'The database file; also one of a genuine edgecore' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand logs" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand logs" -s f -l follow -d 'Go on with what is written from now on, until the container ends'
complete -c kedge -n "__fish_kedge_using_subcommand logs" -s p -l previous -d 'The run of the container before the present one'
complete -c kedge -n "__fish_kedge_using_subcommand logs" -l timestamps -d 'Show when each line was written'
complete -c kedge -n "__fish_kedge_using_subcommand logs" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand logs" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand logs" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand meta; and not __fish_seen_subcommand_from list get export" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand meta; and not __fish_seen_subcommand_from list get export" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand meta; and not __fish_seen_subcommand_from list get export" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand meta; and not __fish_seen_subcommand_from list get export" -f -a "list" -d 'List the objects by key'
complete -c kedge -n "__fish_kedge_using_subcommand meta; and not __fish_seen_subcommand_from list get export" -f -a "get" -d 'Show one object'
complete -c kedge -n "__fish_kedge_using_subcommand meta; and not __fish_seen_subcommand_from list get export" -f -a "export" -d 'Write everything that is stored, devices and twins included, in one document; data of Secrets is hidden'
complete -c kedge -n "__fish_kedge_using_subcommand meta; and __fish_seen_subcommand_from list" -l type -d 'Only objects of this type, such as pod, configmap, secret, node, device' -r
complete -c kedge -n "__fish_kedge_using_subcommand meta; and __fish_seen_subcommand_from list" -s n -l namespace -d 'Only objects of this namespace' -r
complete -c kedge -n "__fish_kedge_using_subcommand meta; and __fish_seen_subcommand_from list" -l db -d 'The database file; also one of a genuine edgecore' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand meta; and __fish_seen_subcommand_from list" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand meta; and __fish_seen_subcommand_from list" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand meta; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand meta; and __fish_seen_subcommand_from list" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand meta; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand meta; and __fish_seen_subcommand_from get" -l db -d 'The database file; also one of a genuine edgecore' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand meta; and __fish_seen_subcommand_from get" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand meta; and __fish_seen_subcommand_from get" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand meta; and __fish_seen_subcommand_from get" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand meta; and __fish_seen_subcommand_from get" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand meta; and __fish_seen_subcommand_from get" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand meta; and __fish_seen_subcommand_from export" -l db -d 'The database file; also one of a genuine edgecore' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand meta; and __fish_seen_subcommand_from export" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand meta; and __fish_seen_subcommand_from export" -s o -l output -d 'Form of the output; text is YAML' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand meta; and __fish_seen_subcommand_from export" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand meta; and __fish_seen_subcommand_from export" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand meta; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand pods" -s n -l namespace -d 'Only pods of this namespace' -r
complete -c kedge -n "__fish_kedge_using_subcommand pods" -l runtime-endpoint -d 'The container runtime\'s socket; found when not given' -r
complete -c kedge -n "__fish_kedge_using_subcommand pods" -l db -d 'The database file; also one of a genuine edgecore' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand pods" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand pods" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand pods" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand pods" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand pods" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand reset; and not __fish_seen_subcommand_from edge cloud" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand reset; and not __fish_seen_subcommand_from edge cloud" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand reset; and not __fish_seen_subcommand_from edge cloud" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand reset; and not __fish_seen_subcommand_from edge cloud" -f -a "edge" -d 'Take this machine out of its cloud, as it was before `kedge join`'
complete -c kedge -n "__fish_kedge_using_subcommand reset; and not __fish_seen_subcommand_from edge cloud" -f -a "cloud" -d 'Take the control plane out of a cluster and off this machine'
complete -c kedge -n "__fish_kedge_using_subcommand reset; and __fish_seen_subcommand_from edge" -s o -l output -d 'Form in which the outcome is shown' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand reset; and __fish_seen_subcommand_from edge" -l dry-run -d 'List what would be undone, and change nothing'
complete -c kedge -n "__fish_kedge_using_subcommand reset; and __fish_seen_subcommand_from edge" -l force -d 'Ask nothing, and put back what others have changed since'
complete -c kedge -n "__fish_kedge_using_subcommand reset; and __fish_seen_subcommand_from edge" -s y -l yes -d 'Answer every question with yes'
complete -c kedge -n "__fish_kedge_using_subcommand reset; and __fish_seen_subcommand_from edge" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand reset; and __fish_seen_subcommand_from edge" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand reset; and __fish_seen_subcommand_from edge" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand reset; and __fish_seen_subcommand_from cloud" -l kube-config -l kubeconfig -d 'The cluster\'s kubeconfig [default: $KUBECONFIG, then ~/.kube/config]' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand reset; and __fish_seen_subcommand_from cloud" -l yes-i-mean -l cluster-name -d 'The cluster\'s name, as the kubeconfig has it; without it, it is asked for' -r
complete -c kedge -n "__fish_kedge_using_subcommand reset; and __fish_seen_subcommand_from cloud" -s o -l output -d 'Form in which the outcome is shown' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand reset; and __fish_seen_subcommand_from cloud" -l purge -d 'Also remove definitions with the objects under them, and a namespace that others use'
complete -c kedge -n "__fish_kedge_using_subcommand reset; and __fish_seen_subcommand_from cloud" -l force -d 'Put back on this machine what others have changed since'
complete -c kedge -n "__fish_kedge_using_subcommand reset; and __fish_seen_subcommand_from cloud" -l dry-run -d 'List what would be removed, and change nothing'
complete -c kedge -n "__fish_kedge_using_subcommand reset; and __fish_seen_subcommand_from cloud" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand reset; and __fish_seen_subcommand_from cloud" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand reset; and __fish_seen_subcommand_from cloud" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand service; and not __fish_seen_subcommand_from status start stop restart install remove keep" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand service; and not __fish_seen_subcommand_from status start stop restart install remove keep" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand service; and not __fish_seen_subcommand_from status start stop restart install remove keep" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand service; and not __fish_seen_subcommand_from status start stop restart install remove keep" -f -a "status" -d 'Show which of kedge\'s services are installed, start with the machine, and run'
complete -c kedge -n "__fish_kedge_using_subcommand service; and not __fish_seen_subcommand_from status start stop restart install remove keep" -f -a "start" -d 'Start a service'
complete -c kedge -n "__fish_kedge_using_subcommand service; and not __fish_seen_subcommand_from status start stop restart install remove keep" -f -a "stop" -d 'Stop a service; containers run on'
complete -c kedge -n "__fish_kedge_using_subcommand service; and not __fish_seen_subcommand_from status start stop restart install remove keep" -f -a "restart" -d 'Stop a service where it runs, and start it; containers run on'
complete -c kedge -n "__fish_kedge_using_subcommand service; and not __fish_seen_subcommand_from status start stop restart install remove keep" -f -a "install" -d 'Have a daemon start with this machine, and start it'
complete -c kedge -n "__fish_kedge_using_subcommand service; and not __fish_seen_subcommand_from status start stop restart install remove keep" -f -a "remove" -d 'Undo `kedge service install`'
complete -c kedge -n "__fish_kedge_using_subcommand service; and not __fish_seen_subcommand_from status start stop restart install remove keep" -f -a "keep"
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from status" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from status" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from status" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from start" -l dry-run -d 'Say what would be done, and change nothing'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from start" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from start" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from start" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from stop" -l dry-run -d 'Say what would be done, and change nothing'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from stop" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from stop" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from stop" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from restart" -l dry-run -d 'Say what would be done, and change nothing'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from restart" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from restart" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from restart" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from install" -l config -d 'The daemon\'s configuration file [default: its usual place below /etc/kubeedge/config]' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from install" -l print -d 'Only print what this service manager would read' -r -f -a "systemd\t''
openrc\t''
plain\t'None: kedge keeps its daemon itself, until the machine\'s restart'"
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from install" -l dry-run -d 'Say what would be done, and change nothing'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from install" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from install" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from install" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from remove" -l dry-run -d 'Say what would be done, and change nothing'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from remove" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from remove" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from keep" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from keep" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand service; and __fish_seen_subcommand_from keep" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand status" -l socket -d 'The daemon\'s socket; found below the data directory when not given' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand status" -l db -d 'The database file; also one of a genuine edgecore' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand status" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand status" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand status" -s w -l watch -d 'Show it anew every two seconds until interrupted'
complete -c kedge -n "__fish_kedge_using_subcommand status" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand status" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand status" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand token; and not __fish_seen_subcommand_from create list revoke" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand token; and not __fish_seen_subcommand_from create list revoke" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand token; and not __fish_seen_subcommand_from create list revoke" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand token; and not __fish_seen_subcommand_from create list revoke" -f -a "create" -d 'Make a token and print it'
complete -c kedge -n "__fish_kedge_using_subcommand token; and not __fish_seen_subcommand_from create list revoke" -f -a "list" -d 'List the tokens that have not expired'
complete -c kedge -n "__fish_kedge_using_subcommand token; and not __fish_seen_subcommand_from create list revoke" -f -a "revoke" -d 'Make a token unusable'
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from create" -l kube-config -l kubeconfig -d 'The cluster\'s kubeconfig [default: $KUBECONFIG, that in the data directory, ~/.kube/config, that of this machine\'s cloud]' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from create" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from create" -l ttl -d 'How long it is valid, such as 30m or 24h' -r
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from create" -l uses -d 'How many machines may join with it; one that has joined may do so again [default: any number]' -r
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from create" -l node -d 'The only node that may join with it' -r
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from create" -l join-file -d 'Write all that a machine needs to join to this file, for its owner only, instead of printing the token' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from create" -l nodes -d 'Make one join file for each line `name[,label=value;label=value]` of this file' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from create" -l out -d 'Where the join files of --nodes go' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from create" -s l -l label -d 'A label of the node, for the join file; may be repeated' -r
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from create" -l cloud -d 'Addresses of the cloud for the join file [default: those that the cluster knows]' -r
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from create" -l hub-port -d 'Port of the cloud\'s WebSocket, for the join file' -r
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from create" -l cert-port -d 'Port of the cloud\'s certificate service, for the join file' -r
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from create" -l tunnel-port -d 'Port of the cloud\'s tunnel, for the join file' -r
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from create" -s o -l output -d 'Form in which tokens and names of files are shown' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from create" -l takeover -d 'Let another machine take this node\'s name with it'
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from create" -l replace -d 'Write join files anew that are there, and revoke the tokens in them'
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from create" -l dry-run -d 'Check, and change nothing'
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from create" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from create" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from list" -l kube-config -l kubeconfig -d 'The cluster\'s kubeconfig [default: $KUBECONFIG, that in the data directory, ~/.kube/config, that of this machine\'s cloud]' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from list" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from list" -s o -l output -d 'How to print the list' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from list" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from revoke" -l kube-config -l kubeconfig -d 'The cluster\'s kubeconfig [default: $KUBECONFIG, that in the data directory, ~/.kube/config, that of this machine\'s cloud]' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from revoke" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from revoke" -l dry-run -d 'Check, and change nothing'
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from revoke" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from revoke" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand token; and __fish_seen_subcommand_from revoke" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand twin; and not __fish_seen_subcommand_from list get set watch" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand twin; and not __fish_seen_subcommand_from list get set watch" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand twin; and not __fish_seen_subcommand_from list get set watch" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand twin; and not __fish_seen_subcommand_from list get set watch" -f -a "list" -d 'List the properties of all devices'
complete -c kedge -n "__fish_kedge_using_subcommand twin; and not __fish_seen_subcommand_from list get set watch" -f -a "get" -d 'Show the properties of a device, or one of them'
complete -c kedge -n "__fish_kedge_using_subcommand twin; and not __fish_seen_subcommand_from list get set watch" -f -a "set" -d 'Set the desired value of a property'
complete -c kedge -n "__fish_kedge_using_subcommand twin; and not __fish_seen_subcommand_from list get set watch" -f -a "watch" -d 'Follow changes until interrupted'
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from list" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from list" -l kube-config -d 'Ask the Kubernetes API of this kubeconfig instead of this node\'s store' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from list" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from list" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from get" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from get" -l kube-config -d 'Ask the Kubernetes API of this kubeconfig instead of this node\'s store' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from get" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from get" -l trace -d 'Show the way of the values hop by hop, and the first broken one; exit status 1 when one is'
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from get" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from get" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from get" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from set" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from set" -l kube-config -d 'Ask the Kubernetes API of this kubeconfig instead of this node\'s store' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from set" -l dry-run -d 'Check, and change nothing'
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from set" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from set" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from set" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from watch" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from watch" -l kube-config -d 'Ask the Kubernetes API of this kubeconfig instead of this node\'s store' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from watch" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from watch" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from watch" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand twin; and __fish_seen_subcommand_from watch" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand undo" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand undo" -l list -d 'List what can be taken back, and change nothing'
complete -c kedge -n "__fish_kedge_using_subcommand undo" -l dry-run -d 'Show what would be taken back, and change nothing'
complete -c kedge -n "__fish_kedge_using_subcommand undo" -s y -l yes -d 'Do not ask'
complete -c kedge -n "__fish_kedge_using_subcommand undo" -l force -d 'Also where somebody else has changed it since'
complete -c kedge -n "__fish_kedge_using_subcommand undo" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand undo" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand undo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kedge -n "__fish_kedge_using_subcommand up" -l data-dir -d 'Where `kedge up` keeps everything' -r -F
complete -c kedge -n "__fish_kedge_using_subcommand up" -l node -d 'Name of this machine as a node [default: its host name]' -r
complete -c kedge -n "__fish_kedge_using_subcommand up" -l api-port -d 'Port of the Kubernetes API' -r
complete -c kedge -n "__fish_kedge_using_subcommand up" -l hub-port -d 'Port of the cloud\'s WebSocket' -r
complete -c kedge -n "__fish_kedge_using_subcommand up" -l cert-port -d 'Port of the cloud\'s certificate service' -r
complete -c kedge -n "__fish_kedge_using_subcommand up" -l tunnel-port -d 'Port of the cloud\'s tunnel' -r
complete -c kedge -n "__fish_kedge_using_subcommand up" -l stream-port -d 'Port of the cloud\'s kubelet API' -r
complete -c kedge -n "__fish_kedge_using_subcommand up" -l mqtt-port -d 'Port of the MQTT broker' -r
complete -c kedge -n "__fish_kedge_using_subcommand up" -l demo -d 'Also apply a demo Deployment and a simulated thermometer'
complete -c kedge -n "__fish_kedge_using_subcommand up" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand up" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand up" -s h -l help -d 'Print help'
complete -c kedge -n "__fish_kedge_using_subcommand version" -s o -l output -d 'Form of the output' -r -f -a "text\t''
json\t''
yaml\t''"
complete -c kedge -n "__fish_kedge_using_subcommand version" -s q -l quiet -d 'Print nothing but data and errors'
complete -c kedge -n "__fish_kedge_using_subcommand version" -l plain -d 'No colour and no spinner, even on a terminal'
complete -c kedge -n "__fish_kedge_using_subcommand version" -s h -l help -d 'Print help'
