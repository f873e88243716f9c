//! cloudcore.yaml and edgecore.yaml: KubeEdge's schema plus a `kedge:` section, typed and checked, all problems at once.
