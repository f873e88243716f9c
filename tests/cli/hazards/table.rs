//! Which test holds for which hazard of protocol.md §13 and which advisory of users.md §5; the test below fails when one of
//! them is gone. What kedge does not have cannot be attacked, and says so here: no DMI server, no CSI socket on the cloud,
//! no admission webhook, no QUIC.

use std::path::Path;

const AT_CLOUD: &str = "tests/cli/hazards/at_cloud.rs";
const AT_EDGE: &str = "tests/cli/hazards/at_edge.rs";
const FLEET: &str = "tests/cli/fleet_upgrade.rs";
const HOSTILE: &str = "tests/cli/hostile.rs";
const EDGECORE: &str = "tests/cli/edgecore.rs";
const CLOUDCORE: &str = "tests/cli/cloudcore.rs";
const ROUTER: &str = "tests/cli/router.rs";
const JOINT: &str = "src/daemon/joint.rs";

type Row = (&'static str, &'static [(&'static str, &'static str)]);

const TABLE: &[Row] = &[
    // protocol.md §13, in its order.
    (
        "a message that is no JSON closes the connection",
        &[
            (HOSTILE, "a_hostile_node_and_hostile_devices_harm_nobody_else"),
            (HOSTILE, "a_hostile_cloud_does_not_harm_the_edge"),
        ],
    ),
    (
        "a resource version that is no number",
        &[(AT_CLOUD, "a_version_that_is_no_number"), (AT_EDGE, "a_version_that_is_no_number")],
    ),
    (
        "an acknowledgement is missing",
        &[
            (AT_CLOUD, "a_missing_acknowledgement_holds_up_nobody_else"),
            (AT_CLOUD, "a_database_that_cannot_write_is_told_and_the_object_comes_again"),
            (AT_EDGE, "a_burst_beyond_every_queue_is_acknowledged_to_the_last"),
            (CLOUDCORE, "nothing_that_a_cloudcore_sends_holds_up_what_comes_behind_it"),
        ],
    ),
    (
        "an answer without object and without error",
        &[
            (AT_CLOUD, "a_node_that_is_gone_is_never_a_success_without_an_object"),
            (CLOUDCORE, "empty_answers_to_patches_end_nothing"),
        ],
    ),
    (
        "devicecontroller speaks of an unknown type",
        &[
            (EDGECORE, "a_device_is_known_reports_and_is_told_what_is_wanted"),
            (AT_EDGE, "null_and_odd_contents_of_every_message"),
        ],
    ),
    (
        "a task with an unknown operation",
        &[
            ("src/daemon/road_catalogue.rs", "a_job_is_handed_to_its_node_and_its_end_is_recorded"),
            (AT_EDGE, "tasks_that_nobody_knows_and_words_for_a_shell"),
        ],
    ),
    (
        "a tunnel frame of an unknown type",
        &[
            (AT_CLOUD, "frames_of_a_tunnel_that_nobody_knows"),
            (AT_EDGE, "frames_of_a_tunnel_that_nobody_knows"),
        ],
    ),
    (
        "a device report that lacks its parts",
        &[
            (AT_CLOUD, "null_and_odd_contents_of_every_message"),
            ("tests/cli/devices.rs", "a_nonsense_update_gets_an_answer_and_harms_nothing"),
        ],
    ),
    (
        "a client certificate without an organization",
        &[(AT_CLOUD, "a_certificate_without_an_organization_gets_no_other")],
    ),
    (
        "an upgrade without its use",
        &[
            (AT_CLOUD, "an_upgrade_without_its_use_or_under_another_name_is_refused_and_closed"),
            (JOINT, "refused_connections_are_closed_and_counted"),
        ],
    ),
    (
        "refused connections are left open",
        &[
            (AT_CLOUD, "a_node_beyond_the_limit_is_refused_with_a_reason"),
            (JOINT, "a_crowd_that_is_let_in_at_once_is_turned_away_with_a_reason"),
            (JOINT, "a_cloud_that_stops_or_is_full_says_when_to_come_back"),
        ],
    ),
    (
        "an error is stored as an empty object",
        &[
            (CLOUDCORE, "what_a_pod_needs_is_asked_for_and_wrong_answers_are_errors"),
            (JOINT, "an_object_that_no_message_can_hold_is_answered_and_holds_nothing_up"),
        ],
    ),
    (
        "a message of another group is dropped",
        &[
            (AT_CLOUD, "null_and_odd_contents_of_every_message"),
            (AT_EDGE, "null_and_odd_contents_of_every_message"),
        ],
    ),
    // users.md §5.1 and §5.2.
    ("CVE-2022-31073", &[(ROUTER, "bodies_and_answers_without_an_end_are_cut_off")]),
    ("CVE-2022-31074", &[(AT_CLOUD, "bodies_for_the_api_have_an_end")]),
    ("CVE-2022-31075", &[(AT_CLOUD, "a_signing_request_without_an_end_is_cut_off")]),
    (
        "CVE-2022-31076",
        &[
            (AT_CLOUD, "local_sockets_take_nothing_that_they_cannot_read"),
            (AT_EDGE, "local_sockets_take_nothing_that_they_cannot_read"),
        ],
    ),
    (
        "CVE-2022-31077",
        &[
            (AT_CLOUD, "null_and_odd_contents_of_every_message"),
            (AT_EDGE, "volume_operations_are_answered_whatever_they_hold"),
        ],
    ),
    ("CVE-2022-31078", &[(ROUTER, "bodies_and_answers_without_an_end_are_cut_off")]),
    (
        "CVE-2022-31079",
        &[(AT_CLOUD, "frames_of_a_tunnel_that_nobody_knows"), (AT_CLOUD, "a_frame_that_claims_an_exabyte")],
    ),
    ("CVE-2022-31080", &[(AT_EDGE, "a_refusal_without_an_end")]),
    (
        "CVE-2026-62182",
        &[
            (AT_EDGE, "tasks_that_nobody_knows_and_words_for_a_shell"),
            (FLEET, "what_is_hostile_or_impossible_is_said_in_the_status_and_reaches_no_node"),
            (FLEET, "a_configuration_is_changed_on_a_node_and_the_daemon_begins_anew_with_it"),
        ],
    ),
    (
        "CVE-2026-62369",
        &[
            ("src/layers.rs", "nobody_unpacks_an_archive"),
            (AT_EDGE, "names_and_keys_that_lead_out_of_their_directory"),
        ],
    ),
    (
        "CVE-2026-62370",
        &[(AT_CLOUD, "a_frame_that_claims_an_exabyte"), (AT_EDGE, "a_frame_that_claims_an_exabyte")],
    ),
    (
        "CVE-2026-62371",
        &[
            (AT_EDGE, "tasks_that_nobody_knows_and_words_for_a_shell"),
            (FLEET, "what_is_hostile_or_impossible_is_said_in_the_status_and_reaches_no_node"),
        ],
    ),
    // users.md §5.3 and what else must not be copied.
    ("TLS is not verified", &[(AT_EDGE, "a_cloud_of_another_authority_is_not_talked_to")]),
    (
        "a node reads and changes what is not its own",
        &[
            ("tests/cli/authorization.rs", "a_node_gets_what_its_pods_refer_to_and_nothing_else"),
            (
                "tests/cli/authorization.rs",
                "where_refusals_are_only_logged_everything_is_let_through_and_counted",
            ),
            ("src/daemon/rights.rs", "a_node_without_a_pod_for_it_hears_of_no_change_of_a_secret"),
        ],
    ),
    ("connections that say nothing", &[(AT_CLOUD, "connections_that_say_nothing_hold_up_nobody")]),
    (
        "floods fill memory and logs",
        &[
            (AT_CLOUD, "a_flood_of_acknowledgements_and_of_kinds_is_counted_not_kept"),
            (AT_CLOUD, "a_flood_of_refusals_is_counted_not_logged"),
        ],
    ),
    ("QUIC", &[(AT_CLOUD, "quic_is_not_offered"), (AT_EDGE, "quic_is_not_spoken")]),
];

#[test]
fn every_hazard_has_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (hazard, tests) in TABLE {
        assert!(!tests.is_empty(), "{hazard}");
        for (file, test) in *tests {
            let text = std::fs::read_to_string(root.join(file)).unwrap();
            assert!(text.contains(&format!("fn {test}()")), "{hazard}: {file} has no {test}");
        }
    }
}
