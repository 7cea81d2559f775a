//! `explain`: the page on a code.

use clap::Args;

use super::{Answer, Exit, Outcome, Trouble};
use crate::config::codes;

#[derive(Args, Debug)]
pub(super) struct Explain {
    /// The code, such as TG203; all codes are listed where none is given.
    #[arg(value_name = "CODE")]
    code: Option<String>,
}

impl Explain {
    pub(super) fn perform(self) -> Outcome {
        let Some(code) = self.code else {
            let pages: Vec<_> = codes::pages().collect();
            let text: String = pages.iter().map(|page| format!("{}  {}\n", page.code, page.title)).collect();
            return Ok(Answer::fine(format!("{} codes", pages.len()), &pages, text));
        };
        match codes::explain(&code) {
            Some(page) => {
                let text = format!("{}: {}\n\n{}\n", page.code, page.title, page.text);
                Ok(Answer::fine(page.title, page, text))
            }
            None => {
                let trouble = Trouble::of(format!("explain `{code}`: there is no such code"));
                Err(Box::new(Answer::failed(Exit::Usage, trouble.cure("`tidegate explain` lists all of them"))))
            }
        }
    }
}
