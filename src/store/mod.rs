//! The edge node's SQLite database in KubeEdge's layout (protocol.md §10): objects, devices, twins, outbox.
//! One writer thread; readers by connection; the truth that every edge module acts on. Never holds a secret in a log.
