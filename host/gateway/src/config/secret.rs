//! Where a secret is: in a file, or in a variable of the environment. Never in the config file itself.

use std::path::{Path, PathBuf};

use super::diagnostic::Diagnostic;
use super::reader::Table;

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// `file`, relative to the config file's folder.
    File(PathBuf),
    /// `env`: a variable of the process.
    Env(String),
}

/// Read `file` or `env` of a table, one of which there has to be.
pub(super) fn source(table: &Table<'_>, folder: &Path) -> Option<SecretSource> {
    let (file, env) = (table.string("file"), table.string("env"));
    let given = [table.span_of("file"), table.span_of("env")];
    match (given, file, env) {
        ([None, None], ..) => {
            table.problems().push(
                Diagnostic::at(table.span(), "this secret has neither `file` nor `env`")
                    .hint("for example `file = \"/run/secrets/token\"` or `env = \"TOKEN\"`"),
            );
            None
        }
        ([Some(first), Some(second)], ..) => {
            table.problems().push(
                Diagnostic::at(second, "this secret has both `file` and `env`")
                    .label("take one of them out")
                    .related(first, ""),
            );
            None
        }
        (_, Some(file), _) => {
            let path = *file.get_ref();
            if path.is_empty() {
                table.problems().push(Diagnostic::at(file.span(), "`file` is empty"));
                return None;
            }
            Some(SecretSource::File(folder.join(path)))
        }
        (_, _, Some(env)) => {
            let name = *env.get_ref();
            if name.is_empty() || name.contains(['=', '\0']) {
                table.problems().push(Diagnostic::at(env.span(), "`env` is no name of a variable"));
                return None;
            }
            Some(SecretSource::Env(name.to_owned()))
        }
        // Of the wrong type, which has been reported.
        _ => None,
    }
}
