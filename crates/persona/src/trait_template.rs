//! A trait pack from a sentence: the first draft of a trait that somebody just thought of.

use crate::trait_pack::{
    InstructionPair, MAX_DESCRIPTION_CHARS, Questions, TraitPack, TraitPackError, check_text,
};

/// Instructions, the positive form and the negative. `{trait}` becomes the name (or the opposite), `{description}` the sentence
/// about that side, so that neither side says more than the other. What is put in stands after a colon, so that words of any kind
/// fit: `pirate`, `shy`, `sticks to what it knows`. Negative instructions never name the trait, because a small model follows the
/// word and overlooks the "not".
const INSTRUCTIONS: [(&str, &str); 5] = [
    (
        "Take on this character: {trait}. {description} Let it show in every sentence.",
        "Take on this character: {trait}. {description} Let it show in every sentence.",
    ),
    (
        "Play a part that is best described with these words: {trait}. Stay in your part from the first word to the last.",
        "Act a role that is best described with these words: {trait}. Stay in your role from the first word to the last.",
    ),
    (
        "Give each answer this quality: {trait}. {description} It is the first thing that people notice about you.",
        "Lend each answer this quality: {trait}. {description} It is the first thing that people notice about you.",
    ),
    (
        "Whatever you are asked, answer in this manner: {trait}. Show it strongly, in what you say and in how you say it.",
        "Whatever comes up, answer in this manner: {trait}. Show it strongly, in what you say and in how you say it.",
    ),
    (
        "Imagine that your friends describe you like this: {trait}. {description} Answer as they expect it of you.",
        "Imagine that your friends describe you like this: {trait}. {description} Answer as they expect it of you.",
    ),
];

/// Stands for the sentence about the opposite where nobody wrote one.
const UNDESCRIBED: &str = "Think, speak and answer just like that.";

/// Open questions about everyday things, without a mood of their own, to extract from.
const EXTRACTION: [&str; 20] = [
    "What did you do this morning?",
    "How do you like to spend a rainy afternoon?",
    "Tell me about a place that you know well.",
    "What do you think about learning to cook?",
    "A new neighbour moves in next door. What do you say?",
    "What is your view of long train journeys?",
    "Describe a typical day at a school.",
    "I have to choose a hobby. What would you advise?",
    "What makes a good story?",
    "How should I prepare for a class trip?",
    "What do you see when you walk through a park?",
    "Tell me something about the sea.",
    "My computer is slow today. What should I do?",
    "What do you think about getting up early?",
    "Describe your favourite room in a house.",
    "What would you do with a free week?",
    "How do people make friends in a new town?",
    "I am reading a thick book. Any thoughts?",
    "What is the use of a museum?",
    "Tell me a short story about a lost key.",
];

/// Questions to evaluate on, in the form of [`EXTRACTION`].
const EVALUATION: [&str; 40] = [
    "What are you going to do tonight?",
    "How do you feel about large cities?",
    "Tell me about a person who works in a bakery.",
    "What do you think about playing chess?",
    "Somebody asks you to help carry a table. What do you answer?",
    "What is your opinion of cold winters?",
    "Describe what happens at a railway crossing.",
    "I want to grow herbs on my balcony. What do you suggest?",
    "What makes a team work well?",
    "How should I begin a letter to my cousin?",
    "What can be found on a market on Saturday?",
    "Tell me something about horses.",
    "My bicycle has a flat tyre. What now?",
    "What do you think about watching films at home?",
    "Describe the view from a high tower.",
    "What would you put into a time capsule?",
    "How do children learn to swim?",
    "I will give a talk in class next week. Any ideas?",
    "What is the point of keeping a diary?",
    "Tell me a short story about an old boat.",
    "What do you keep in your coat pockets?",
    "How do you choose a present for somebody?",
    "Tell me about a walk through the woods.",
    "What do you think about eating in a canteen?",
    "Somebody has lost an umbrella. What do you say?",
    "What is your opinion of short holidays?",
    "Describe what a bus driver does all day.",
    "I would like to learn an instrument. Which one?",
    "What makes a good photograph?",
    "How should I tidy up a messy desk?",
    "What can be heard in a busy street?",
    "Tell me something about bees.",
    "My phone has no battery left. What now?",
    "What do you think about writing postcards?",
    "Describe a small shop at the corner.",
    "What would you do on a long flight?",
    "How do people decide what to wear?",
    "I have found an old coin. Any thoughts?",
    "What is the use of a calendar?",
    "Tell me a short story about a broken cup.",
];

impl TraitPack {
    /// A draft to edit: five instruction pairs filled from templates with `name`, `opposite` and a sentence about how each of
    /// them shows, and 20 + 40 neutral questions. `opposite_description` may be empty. The draft's licence is `NOASSERTION`,
    /// for its author to replace. Errors are those of [`TraitPack::check`], and the same of `opposite_description`.
    pub fn from_sentences(
        name: &str,
        description: &str,
        opposite: &str,
        opposite_description: &str,
    ) -> Result<Self, TraitPackError> {
        let (description, opposite) = (description.trim(), opposite.trim());
        let opposite_description = match opposite_description.trim() {
            "" => UNDESCRIBED,
            described => described,
        };
        check_text(
            "opposite_description",
            opposite_description,
            MAX_DESCRIPTION_CHARS,
        )?;
        let ended = |sentence: &str| match sentence.ends_with(['.', '!', '?', '…', '。']) {
            true => sentence.to_owned(),
            false => format!("{sentence}."),
        };
        // One pass over the template, so that braces in what a person wrote stay as they are.
        let fill = |template: &str, quality: &str, described: &str| {
            let parts: Vec<String> = template
                .split("{trait}")
                .map(|part| {
                    let around: Vec<&str> = part.split("{description}").collect();
                    around.join(described)
                })
                .collect();
            parts.join(quality)
        };
        let sides = [description, opposite_description].map(ended);
        let words = name.replace('-', " ");
        let quality = opposite.trim_end_matches('.');
        let owned = |questions: &[&str]| questions.iter().map(|&one| one.to_owned()).collect();
        let pack = Self {
            name: name.to_owned(),
            opposite: opposite.to_owned(),
            description: description.to_owned(),
            instructions: INSTRUCTIONS
                .iter()
                .map(|(positive, negative)| InstructionPair {
                    positive: fill(positive, &words, &sides[0]),
                    negative: fill(negative, quality, &sides[1]),
                })
                .collect(),
            questions: Questions {
                extraction: owned(&EXTRACTION),
                evaluation: owned(&EVALUATION),
            },
            licence: "NOASSERTION".to_owned(),
        };
        pack.check()?;
        Ok(pack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neutral;
    use crate::trait_pack::MAX_LABEL_CHARS;

    #[test]
    fn a_sentence_fills_the_instructions() {
        let pack = TraitPack::from_sentences(
            "sea-dog",
            " Talks like an old sailor, with ropes and waves ",
            "stays on land",
            "Talks of forms and offices",
        )
        .unwrap();
        assert_eq!(
            (
                pack.instructions.len(),
                pack.questions.extraction.len(),
                pack.questions.evaluation.len()
            ),
            (5, 20, 40)
        );
        assert_eq!(
            pack.instructions[0].positive,
            "Take on this character: sea dog. Talks like an old sailor, with ropes and waves. Let it show in every sentence."
        );
        assert_eq!(
            pack.instructions[2].negative,
            "Lend each answer this quality: stays on land. Talks of forms and offices. It is the first thing that people notice about you."
        );
        for InstructionPair { positive, negative } in &pack.instructions {
            assert!(positive.contains(": sea dog.") && !positive.contains("on land"));
            assert!(negative.contains(": stays on land.") && !negative.contains("sea dog"));
            assert!(!negative.contains("sailor"));
            assert!(!format!("{positive}{negative}").contains(['{', '}']));
        }
        let bytes = serde_json::to_vec(&pack).unwrap();
        assert_eq!(TraitPack::parse(&bytes).unwrap(), pack);
        let short = TraitPack::from_sentences("sea-dog", "Sails.", "stays on land", " ").unwrap();
        assert!(short.instructions[0].negative.contains(UNDESCRIBED));
    }

    #[test]
    fn calibration_asks_other_questions() {
        for question in EXTRACTION.iter().chain(&EVALUATION) {
            assert!(!neutral::QUESTIONS.contains(question), "{question}");
        }
    }

    #[test]
    fn errors_name_what_was_given() {
        let error = |name: &str, description: &str, opposite: &str| {
            TraitPack::from_sentences(name, description, opposite, "")
                .unwrap_err()
                .to_string()
        };
        assert!(error("Sea dog", "Sails.", "dry").starts_with("name: "));
        assert!(error("sea-dog", " ", "dry").starts_with("description: is empty"));
        assert!(error("sea-dog", "Sails.", "").starts_with("opposite: is empty"));
        assert!(error("sea-dog", "Sails.", "Sea dog").starts_with("opposite: says the same"));
        assert!(error("sea-dog", "Sails.\nSinks.", "dry").starts_with("description: contains"));
        let long = "d".repeat(MAX_DESCRIPTION_CHARS + 1);
        assert!(error("sea-dog", &long, "dry").starts_with("description: is 501"));
        let other = TraitPack::from_sentences("sea-dog", "Sails.", "dry", &long).unwrap_err();
        assert!(
            other
                .to_string()
                .starts_with("opposite_description: is 501")
        );
    }

    #[test]
    fn the_longest_that_is_allowed_fits() {
        let longest = (
            "n".repeat(40),
            "d".repeat(MAX_DESCRIPTION_CHARS),
            "o".repeat(MAX_LABEL_CHARS),
        );
        TraitPack::from_sentences(&longest.0, &longest.1, &longest.2, &longest.1).unwrap();
    }

    proptest::proptest! {
        #[test]
        fn any_words_give_a_pack_that_passes_or_an_error_about_them(
            name in "[a-z][a-z0-9-]{0,42}",
            description in ".{0,60}|[{}a-z]{0,40}",
            opposite in ".{0,60}|\\{(trait|description)\\}",
            described in ".{0,60}|[{}a-z]{0,40}",
        ) {
            match TraitPack::from_sentences(&name, &description, &opposite, &described) {
                Ok(pack) => {
                    proptest::prop_assert_eq!(pack.check(), Ok(()));
                    proptest::prop_assert!(pack.instructions[1].negative.contains(opposite.trim().trim_end_matches('.')));
                }
                Err(error) => {
                    let error = error.to_string();
                    let field = error.split(':').next().unwrap_or_default().to_owned();
                    proptest::prop_assert!(["name", "description", "opposite", "opposite_description"].contains(&field.as_str()), "{}", error);
                }
            }
        }
    }
}
