//! Which machine it is: a fingerprint of the two identities that every kubelet, an edgecore too, reports of its machine.
//! The edge says it when it asks for a certificate, the cloud compares it with the Node of that name. Pure.

use ring::digest::{Context, SHA256};

/// The header in which a kedge machine that asks for a certificate says its fingerprint.
pub const MACHINE_HEADER: &str = "kedge-machine";

/// Sixteen hexadecimal digits for a machine's id and its firmware's; `None` when it has neither.
pub fn fingerprint(machine_id: &str, system_uuid: &str) -> Option<String> {
    let clean = |text: &str| text.trim().to_ascii_lowercase();
    let (machine_id, system_uuid) = (clean(machine_id), clean(system_uuid));
    if machine_id.is_empty() && system_uuid.is_empty() {
        return None;
    }
    let mut context = Context::new(&SHA256);
    for part in ["kedge machine", &machine_id, &system_uuid] {
        context.update(part.as_bytes());
        context.update(b"\n");
    }
    Some(context.finish().as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_known_by_both_of_its_identities() {
        let one = fingerprint("a1", "U-1").unwrap();
        assert_eq!(one.len(), 16);
        assert_eq!(fingerprint(" A1\n", "u-1").as_ref(), Some(&one));
        assert_ne!(fingerprint("a1", "u-2").as_ref(), Some(&one));
        assert_ne!(fingerprint("a2", "u-1").as_ref(), Some(&one));
        assert_eq!(fingerprint("", " "), None);
    }
}
