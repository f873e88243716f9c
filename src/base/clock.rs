//! The wall clock in the forms that Kubernetes and KubeEdge write it.

use jiff::Timestamp;

/// The present instant.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// Kubernetes' `metav1.Time`: UTC, whole seconds, `2026-01-01T00:00:00Z`.
pub fn rfc3339(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Kubernetes' `metav1.MicroTime`: UTC with six decimals, as Leases carry it.
pub fn rfc3339_micro(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_kubernetes_times() {
        let at = Timestamp::from_millisecond(1_767_225_600_123).unwrap();
        assert_eq!(rfc3339(at), "2026-01-01T00:00:00Z");
        assert_eq!(rfc3339_micro(at), "2026-01-01T00:00:00.123000Z");
    }
}
