//! What `--junit` writes: the XML that CI servers read, one test case per check. There is no standard for it; this is what
//! the servers have in common.

use std::fmt::{self, Write as _};

use tidegate_testing::conformance::{Finding, Outcome, Report};

use super::Tested;

/// The report as XML.
pub(super) fn report(tested: &Tested, report: &Report) -> String {
    let (tests, failures, skipped) =
        (report.findings.len(), report.count(Outcome::Failed), report.count(Outcome::Skipped));
    let counts = format!(
        "tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" time=\"{:.3}\"",
        report.took.as_secs_f64()
    );
    let file = Escaped(&tested.file);
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"tidegate plugin test\" {counts}>\n  \
         <testsuite name=\"{file}\" {counts}>\n    <properties>\n      <property name=\"digest\" value=\"{}\"/>\n    \
         </properties>\n",
        Escaped(&tested.digest)
    );
    for finding in &report.findings {
        xml.push_str(&case(tested, finding));
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

fn case(tested: &Tested, finding: &Finding) -> String {
    let mut xml = format!(
        "    <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\">\n",
        Escaped(&tested.file),
        finding.check.name,
        finding.took.as_secs_f64()
    );
    // Writing to a string does not fail.
    let _ = match finding.outcome {
        Outcome::Passed => Ok(()),
        Outcome::Skipped => writeln!(xml, "      <skipped message=\"{}\"/>", Escaped(&finding.notes.join("; "))),
        Outcome::Failed => {
            let first = finding.problems.first().map_or("", |problem| &problem.text);
            let mut text = String::new();
            for problem in &finding.problems {
                let _ = writeln!(text, "{}", problem.text);
                if let Some(advice) = &problem.advice {
                    let _ = writeln!(text, "hint: {advice}");
                }
            }
            let (first, text) = (Escaped(first), Escaped(&text));
            writeln!(xml, "      <failure type=\"{}\" message=\"{first}\">{text}</failure>", finding.check.name)
        }
    };
    let measures = finding.measures.iter().map(ToString::to_string);
    let notes = finding.notes.iter().filter(|_| finding.outcome != Outcome::Skipped).cloned();
    let said: Vec<String> = measures.chain(notes).collect();
    if !said.is_empty() {
        let _ = writeln!(xml, "      <system-out>{}</system-out>", Escaped(&said.join("\n")));
    }
    xml.push_str("    </testcase>\n");
    xml
}

/// Text within an element or an attribute. What XML cannot hold, escaped or not, becomes U+FFFD: it may come from a plugin.
struct Escaped<'t>(&'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\n' | '\t' => f.write_char(character)?,
                '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => f.write_char('\u{fffd}')?,
                _ => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plugin_says_cannot_break_the_xml() {
        let shown = Escaped("]]> <a b=\"c\">&amp; \u{0}\u{1b}[31m\u{ffff}é").to_string();
        assert_eq!(shown, "]]&gt; &lt;a b=&quot;c&quot;&gt;&amp;amp; \u{fffd}\u{fffd}[31m\u{fffd}é");
    }
}
