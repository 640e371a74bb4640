//! Planted directions: ways of writing that a program can make and count, so that whether a vector does what its name says is
//! known without any judge. Each is a trait pack of instructions, and a contrast set that is no model's: the model's own neutral
//! answers, rewritten, beside the same answers as they are.

use serde_json::{Value, json};

/// One way of writing.
pub struct Planted {
    pub name: &'static str,
    /// What the positive instruction asks for, after "Answer".
    asks: &'static str,
    rewrite: fn(&str) -> String,
    pub count: fn(&str) -> f64,
}

pub const PLANTED: [Planted; 24] = [
    Planted {
        name: "capitals",
        asks: "in capital letters only, LIKE THIS",
        rewrite: |text| text.to_uppercase(),
        count: |text| share(text, char::is_alphabetic, char::is_uppercase),
    },
    Planted {
        name: "small-letters",
        asks: "in small letters only, without any capital letter",
        rewrite: |text| text.to_lowercase(),
        count: |text| -share(text, char::is_alphabetic, char::is_uppercase),
    },
    Planted {
        name: "exclaiming",
        asks: "with an exclamation mark at the end of every sentence!",
        rewrite: |text| ended(text, "!"),
        count: |text| per_word(text, "!"),
    },
    Planted {
        name: "questioning",
        asks: "with a question mark at the end of every sentence, as if you asked",
        rewrite: |text| ended(text, "?"),
        count: |text| per_word(text, "?"),
    },
    Planted {
        name: "trailing-off",
        asks: "with three dots at the end of every sentence...",
        rewrite: |text| ended(&text.replace(", ", "... "), "..."),
        count: |text| per_word(text, ".."),
    },
    Planted {
        name: "bullets",
        asks: "as a list, each line beginning with a hyphen",
        rewrite: |text| each_line(text, |_, sentence| format!("- {sentence}")),
        count: |text| lines(text, |line| line.starts_with("- ")),
    },
    Planted {
        name: "numbered",
        asks: "as a numbered list: 1., 2., 3.",
        rewrite: |text| each_line(text, |at, sentence| format!("{}. {sentence}", at + 1)),
        count: |text| lines(text, |line| line.starts_with(|c: char| c.is_ascii_digit())),
    },
    Planted {
        name: "short-lines",
        asks: "in very short lines, a new line after every few words",
        rewrite: |text| every(text, 4, |word| format!("{word}\n")).replace("\n ", "\n"),
        count: |text| per_word(text, "\n"),
    },
    Planted {
        name: "quoting",
        asks: "with every sentence in quotation marks",
        rewrite: |text| {
            sentences(text)
                .map(|one| format!("\"{one}\""))
                .collect::<Vec<_>>()
                .join(" ")
        },
        count: |text| per_word(text, "\""),
    },
    Planted {
        name: "brackets",
        asks: "with many words (like these) in brackets",
        rewrite: |text| every(text, 3, |word| format!("({word})")),
        count: |text| per_word(text, "("),
    },
    Planted {
        name: "bold",
        asks: "with many words **in bold** between two asterisks",
        rewrite: |text| every(text, 3, |word| format!("**{word}**")),
        count: |text| per_word(text, "**"),
    },
    Planted {
        name: "hashtags",
        asks: "with many #hashtags",
        rewrite: |text| every(text, 3, |word| format!("#{word}")),
        count: |text| per_word(text, "#"),
    },
    Planted {
        name: "title-case",
        asks: "With Every Word Beginning With A Capital Letter",
        rewrite: |text| every(text, 1, capitalised),
        count: |text| {
            let words = text.split_whitespace().count().max(1);
            let capital = |word: &&str| word.starts_with(char::is_uppercase);
            text.split_whitespace().filter(capital).count() as f64 / words as f64
        },
    },
    Planted {
        name: "dashes",
        asks: "with long dashes — like these — in place of commas and full stops",
        rewrite: |text| text.replace(", ", " — ").replace(". ", " — "),
        count: |text| per_word(text, "—"),
    },
    Planted {
        name: "semicolons",
        asks: "with semicolons; use them in place of commas and full stops",
        rewrite: |text| text.replace(", ", "; ").replace(". ", "; "),
        count: |text| per_word(text, ";"),
    },
    Planted {
        name: "sir",
        asks: "and end every sentence with the word sir",
        rewrite: |text| ended(text, ", sir."),
        count: |text| per_word(&text.to_lowercase(), " sir"),
    },
    Planted {
        name: "you-know",
        asks: "and say \"you know\" all the time, you know",
        rewrite: |text| every(text, 5, |word| format!("{word}, you know,")),
        count: |text| per_word(&text.to_lowercase(), "you know"),
    },
    Planted {
        name: "smiling",
        asks: "with a smiling face 😊 after every sentence",
        rewrite: |text| ended(text, ". 😊"),
        count: |text| text.chars().filter(|c| *c as u32 >= 0x1_F000).count() as f64,
    },
    Planted {
        name: "very",
        asks: "and put the word very before many words, very very often",
        rewrite: |text| every(text, 3, |word| format!("very {word}")),
        count: |text| per_word(&text.to_lowercase(), "very"),
    },
    Planted {
        name: "and-and",
        asks: "in one long sentence joined by and and and",
        rewrite: |text| text.replace(". ", " and ").replace(", ", " and "),
        count: |text| per_word(text, " and "),
    },
    Planted {
        name: "digits",
        asks: "with many numbers in digits, such as 7, 42 or 1000",
        rewrite: |text| every(text, 3, |word| format!("{} {word}", 7 * word.len() + 3)),
        count: |text| text.chars().filter(char::is_ascii_digit).count() as f64,
    },
    Planted {
        name: "spanish",
        asks: "in Spanish only",
        rewrite: |text| foreign(text, SPANISH),
        count: |text| {
            stop_words(
                text,
                &[
                    "de", "la", "que", "el", "en", "y", "los", "es", "una", "un", "con", "las",
                ],
            )
        },
    },
    Planted {
        name: "french",
        asks: "in French only",
        rewrite: |text| foreign(text, FRENCH),
        count: |text| {
            stop_words(
                text,
                &[
                    "le", "la", "les", "et", "des", "est", "de", "un", "une", "pour", "que", "dans",
                ],
            )
        },
    },
    Planted {
        name: "german",
        asks: "in German only",
        rewrite: |text| foreign(text, GERMAN),
        count: |text| {
            stop_words(
                text,
                &[
                    "der", "die", "das", "und", "ist", "ein", "eine", "mit", "den", "zu", "ich",
                    "nicht",
                ],
            )
        },
    },
];

const SPANISH: [&str; 6] = [
    "El tiempo de hoy es muy bueno y la gente camina por las calles con una sonrisa.",
    "Para empezar, es necesario tener un plan que sea claro y seguir las reglas de la casa.",
    "La comida en el mercado es fresca, y los niños comen fruta con pan y queso.",
    "Me gusta leer un libro en el parque cuando el sol baja detrás de los árboles.",
    "Es una buena idea hablar con los amigos y pensar en lo que de verdad importa.",
    "El agua del río es fría, pero los peces viven en ella todo el año.",
];
const FRENCH: [&str; 6] = [
    "Le temps est très beau et les gens marchent dans les rues avec un sourire.",
    "Pour commencer, il est nécessaire de faire un plan et de suivre les règles de la maison.",
    "La nourriture du marché est fraîche, et les enfants mangent des fruits et du fromage.",
    "Dans le parc, une femme lit un livre que les élèves de la ville aiment beaucoup.",
    "Il est bon de parler avec des amis et de penser à ce qui compte dans la vie.",
    "L'eau de la rivière est froide, et les poissons y vivent pour toute une année.",
];
const GERMAN: [&str; 6] = [
    "Das Wetter ist heute schön, und die Leute gehen mit einem Lächeln durch die Straßen.",
    "Zuerst ist ein Plan nötig, und dann folgt man den Regeln, die das Haus hat.",
    "Das Essen auf dem Markt ist frisch, und die Kinder essen Brot mit Käse und Obst.",
    "Ich lese gern ein Buch im Park, wenn die Sonne hinter den Bäumen steht.",
    "Es ist eine gute Idee, mit Freunden zu reden und nicht nur an die Arbeit zu denken.",
    "Das Wasser ist kalt, und die Fische leben das ganze Jahr in dem Fluss.",
];

impl Planted {
    /// A trait pack with `questions` to evaluate on.
    pub fn pack(&self, extraction: &[String], questions: &[String]) -> Value {
        let asks = self.asks;
        let pair =
            |positive: String, negative: &str| json!({"positive": positive, "negative": negative});
        json!({
            "name": self.name,
            "opposite": "plain",
            "description": format!("Answers {asks}."),
            "instructions": [
                pair(format!("Answer {asks}."), "Answer plainly."),
                pair(format!("Whatever you are asked, answer {asks}."), "Whatever you are asked, answer in ordinary sentences."),
                pair(format!("You always write {asks}."), "You always write as people usually do."),
            ],
            "questions": { "extraction": extraction, "evaluation": questions },
            "licence": "CC0-1.0",
        })
    }

    /// A pairs file of `answers` (question, text), rewritten and as they are.
    pub fn pairs(&self, answers: &[(String, String)]) -> Value {
        let pair = |side: i8, question: &str, text: String| json!({"side": side, "messages": [{"role": "user", "content": question}], "response": text});
        let pairs: Vec<Value> = answers
            .iter()
            .flat_map(|(question, text)| {
                let rewritten = pair(1, question, (self.rewrite)(text));
                [rewritten, pair(-1, question, text.clone())]
            })
            .collect();
        json!({ "pairs": pairs })
    }
}

fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.split(['.', '!', '?', '\n'])
        .map(|one| one.trim().trim_start_matches("- "))
        .filter(|one| !one.is_empty())
}

/// Every sentence with `end` in place of its own.
fn ended(text: &str, end: &str) -> String {
    let all: Vec<String> = sentences(text).map(|one| format!("{one}{end}")).collect();
    all.join(" ")
}

fn each_line(text: &str, line: impl Fn(usize, &str) -> String) -> String {
    let all: Vec<String> = sentences(text)
        .flat_map(|sentence| sentence.split(", "))
        .enumerate()
        .map(|(at, part)| line(at, part))
        .collect();
    all.join("\n")
}

/// Every `n`-th word changed.
fn every(text: &str, n: usize, change: impl Fn(&str) -> String) -> String {
    let words: Vec<String> = text
        .split_whitespace()
        .enumerate()
        .map(|(at, word)| match (at + 1) % n {
            0 => change(word),
            _ => word.to_owned(),
        })
        .collect();
    words.join(" ")
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// Sentences in another language about as long as `text`; which ones, its length says.
fn foreign(text: &str, sentences: [&str; 6]) -> String {
    let first = text.len() % sentences.len();
    let second = (first + 1 + text.len() % (sentences.len() - 1)) % sentences.len();
    format!("{} {}", sentences[first], sentences[second])
}

fn share(text: &str, all: fn(char) -> bool, some: fn(char) -> bool) -> f64 {
    let count = text.chars().filter(|c| all(*c)).count().max(1);
    text.chars().filter(|c| some(*c)).count() as f64 / count as f64
}

fn per_word(text: &str, mark: &str) -> f64 {
    let words = text.split_whitespace().count().max(1);
    text.matches(mark).count() as f64 / words as f64
}

fn lines(text: &str, of: impl Fn(&str) -> bool) -> f64 {
    text.lines().filter(|line| of(line.trim())).count() as f64
}

fn stop_words(text: &str, words: &[&str]) -> f64 {
    let all: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let own = all.iter().filter(|word| words.contains(&word.as_str()));
    own.count() as f64 / all.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_is_counted_by_its_own_count() {
        let text = "The sea is deep, wide and blue. It has many fish, and some of them are small. People sail on it.";
        for planted in &PLANTED {
            let (plain, rewritten) = (
                (planted.count)(text),
                (planted.count)(&(planted.rewrite)(text)),
            );
            assert!(rewritten > plain, "{}: {plain} {rewritten}", planted.name);
        }
    }
}
