//! What a person types on this very machine to restart a program of somebody else's, to look at it, or to have the clock
//! right. Whoever names a remedy gets it here, so that no machine is told of a manager that it does not have.

use super::service::Manager;

/// How a service of somebody else's is started anew.
pub fn restart(name: &str) -> String {
    restart_by(Manager::here(), name)
}

/// How one sees what a service of somebody else's does.
pub fn look_at(name: &str) -> String {
    look_at_by(Manager::here(), name)
}

/// How the clock is set right and kept so.
pub fn set_clock() -> &'static str {
    set_clock_by(Manager::here())
}

fn restart_by(manager: Manager, name: &str) -> String {
    match manager {
        Manager::Systemd => format!("systemctl restart {name}"),
        Manager::OpenRc => format!("rc-service {name} restart"),
        Manager::Plain => format!("end {name} and start it again, as this machine starts it"),
    }
}

fn look_at_by(manager: Manager, name: &str) -> String {
    match manager {
        Manager::Systemd => format!("systemctl status {name}"),
        Manager::OpenRc => format!("rc-service {name} status"),
        Manager::Plain => format!("pgrep -a {name}"),
    }
}

fn set_clock_by(manager: Manager) -> &'static str {
    match manager {
        Manager::Systemd => "timedatectl set-ntp true",
        Manager::OpenRc => "rc-service chronyd start, or set it by hand: date -u -s",
        Manager::Plain => "start an NTP client such as chronyd, or set it by hand: date -u -s",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_manager_that_is_here_is_named() {
        for (manager, word) in
            [(Manager::Systemd, "systemctl "), (Manager::OpenRc, "rc-service "), (Manager::Plain, "")]
        {
            let told = [
                restart_by(manager, "containerd"),
                look_at_by(manager, "containerd"),
                set_clock_by(manager).to_owned(),
            ];
            assert!(told[0].contains("containerd") && told[0].starts_with(word), "{told:?}");
            assert!(told[1].contains("containerd") && told[1].starts_with(word), "{told:?}");
            let systemd = told.iter().any(|line| line.contains("systemctl") || line.contains("timedatectl"));
            assert_eq!(systemd, manager == Manager::Systemd, "{told:?}");
        }
    }
}
