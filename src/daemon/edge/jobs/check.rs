//! Whether this machine has room for a job: no more than four fifths of anything may be in use, as KubeEdge has it.

use crate::host::facts::Measured;
use crate::wire::task::CheckItem;
use std::path::Path;
use std::time::Duration;

const MOST: f64 = 80.0;
const WHILE: Duration = Duration::from_millis(100);

/// Measures what is asked; the error names the first that is too full.
pub(super) async fn all(items: &[CheckItem]) -> Result<(), String> {
    if items.is_empty() {
        return Ok(());
    }
    let before = processor_times();
    if items.contains(&CheckItem::Cpu) {
        tokio::time::sleep(WHILE).await;
    }
    let after = processor_times();
    let measured = tokio::task::spawn_blocking(|| Measured::read(Path::new("/")));
    let measured = measured.await.map_err(|error| error.to_string())?;
    for item in items {
        let (what, used) = match item {
            CheckItem::Cpu => ("processors", busy(before, after)),
            CheckItem::Memory => ("memory", share(measured.memory_total, measured.memory_available)),
            CheckItem::Disk => ("disk", share(measured.disk_total, measured.disk_available)),
        };
        judge(what, used)?;
    }
    Ok(())
}

fn judge(what: &str, used: Option<f64>) -> Result<(), String> {
    match used {
        None => Err(format!("the use of the {what} cannot be measured")),
        Some(used) if used > MOST => {
            Err(format!("{used:.0} % of the {what} is in use, {MOST:.0} % is the most allowed"))
        }
        Some(_) => Ok(()),
    }
}

fn share(total: u64, available: u64) -> Option<f64> {
    (total > 0).then(|| total.saturating_sub(available) as f64 / total as f64 * 100.0)
}

/// Idle and all time of the processors since boot.
fn processor_times() -> Option<(u64, u64)> {
    parse(&std::fs::read_to_string("/proc/stat").ok()?)
}

fn parse(stat: &str) -> Option<(u64, u64)> {
    let times: Vec<u64> =
        stat.lines().next()?.split_whitespace().skip(1).filter_map(|time| time.parse().ok()).collect();
    // Idle and waiting for disks; guests' time is counted twice further on, so it is left out.
    Some((times.get(3)? + times.get(4)?, times.iter().take(8).sum()))
}

fn busy(before: Option<(u64, u64)>, after: Option<(u64, u64)>) -> Option<f64> {
    let ((idle, all), (idle_then, all_then)) = (after?, before?);
    share(all.checked_sub(all_then)?, idle.checked_sub(idle_then)?).or(Some(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_fifths_are_the_most() {
        assert_eq!(judge("disk", share(100, 20)), Ok(()));
        assert!(judge("disk", share(100, 19)).unwrap_err().contains("81 % of the disk"));
        assert!(judge("disk", share(0, 0)).is_err());
        let before = parse("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1").unwrap();
        let after = parse("cpu  190 0 100 710 100 0 0 0 0 0").unwrap();
        assert_eq!((before, after), ((800, 1000), (810, 1100)));
        assert_eq!(busy(Some(before), Some(after)), Some(90.0));
        assert_eq!(busy(Some(after), Some(after)), Some(0.0));
        assert_eq!(busy(None, Some(after)), None);
    }

    #[tokio::test]
    async fn this_machine_can_be_measured() {
        assert!(processor_times().is_some());
        assert_eq!(all(&[]).await, Ok(()));
    }
}
