//! The difference of two short texts, line by line, as people know it from `diff -u`. Commands show it before they change
//! a file; the caller hides what is secret in both texts first.

/// Lines around a change that are shown with it.
const CONTEXT: usize = 2;
/// Texts with more lines than this are shown as one change.
const LIMIT: usize = 4000;

/// Changed lines with `-` and `+`, some around them with a blank; empty when the texts are equal.
pub fn diff(before: &str, after: &str) -> String {
    if before == after {
        return String::new();
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - start;
    let end = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let mut out: Vec<String> = Vec::new();
    let middle = |lines: &[&str]| -> Vec<String> {
        lines
            .get(start..lines.len() - end)
            .unwrap_or_default()
            .iter()
            .map(|line| (*line).to_owned())
            .collect()
    };
    out.extend(old.iter().take(start).skip(start.saturating_sub(CONTEXT)).map(|line| format!(" {line}")));
    out.extend(changes(&middle(&old), &middle(&new)));
    out.extend(old.iter().skip(old.len() - end).take(CONTEXT).map(|line| format!(" {line}")));
    out.join("\n")
}

/// The longest common lines stay, the others are taken away and added.
fn changes(old: &[String], new: &[String]) -> Vec<String> {
    let removed = |line: &String| format!("-{line}");
    let added = |line: &String| format!("+{line}");
    if old.len().saturating_mul(new.len()) > LIMIT * LIMIT / 16 {
        return old.iter().map(removed).chain(new.iter().map(added)).collect();
    }
    // common[i][j]: how many lines old[i..] and new[j..] share.
    let width = new.len() + 1;
    let mut common = vec![0_usize; (old.len() + 1) * width];
    let read = |common: &[usize], i: usize, j: usize| common.get(i * width + j).copied().unwrap_or(0);
    for (i, a) in old.iter().enumerate().rev() {
        for (j, b) in new.iter().enumerate().rev() {
            let best = if a == b {
                read(&common, i + 1, j + 1) + 1
            } else {
                read(&common, i + 1, j).max(read(&common, i, j + 1))
            };
            if let Some(cell) = common.get_mut(i * width + j) {
                *cell = best;
            }
        }
    }
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while let (Some(a), Some(b)) = (old.get(i), new.get(j)) {
        if a == b {
            out.push(format!(" {a}"));
            (i, j) = (i + 1, j + 1);
        } else if read(&common, i + 1, j) >= read(&common, i, j + 1) {
            out.push(removed(a));
            i += 1;
        } else {
            out.push(added(b));
            j += 1;
        }
    }
    out.extend(old.iter().skip(i).map(removed));
    out.extend(new.iter().skip(j).map(added));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_lines_stand_between_what_surrounds_them() {
        assert_eq!(diff("a\nb\nc\nd\ne\n", "a\nb\nC\nd\ne\n"), " a\n b\n-c\n+C\n d\n e");
        assert_eq!(diff("a\n", "a\nb\n"), " a\n+b");
        assert_eq!(diff("a\nb\n", "b\n"), "-a\n b");
        assert_eq!(diff("a\nx\nb\ny\n", "x\nb\nz\ny\n"), "-a\n x\n b\n+z\n y");
        assert_eq!(diff("a", "a"), "");
    }
}
