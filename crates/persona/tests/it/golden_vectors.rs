//! The ready-made vector files.

use trimtab_checkpoint::manifest::Manifest;
use trimtab_persona::trait_pack::TraitPack;
use trimtab_persona::trait_vector::sha256;
use trimtab_persona::vector_file::VectorFile;
use trimtab_testing::default_model;
use trimtab_testing::files::bytes;

const READY_MADE: [&str; 3] = ["cheerful", "poetic", "villainous"];

fn ready_made(name: &str) -> VectorFile {
    VectorFile::parse(&bytes(format!("models/vectors/{name}.safetensors"))).unwrap()
}

#[test]
fn ready_made_vectors_belong_to_the_default_model_and_their_packs() {
    let manifest = Manifest::from_json(&default_model::file("manifest.json")).unwrap();
    let model_sha256 = manifest.weights().map(|weights| weights.sha256.clone());
    for name in READY_MADE {
        let pack = bytes(format!("models/traits/{name}.json"));
        let parsed = TraitPack::parse(&pack).unwrap();
        assert_eq!(
            (
                parsed.instructions.len(),
                parsed.questions.extraction.len(),
                parsed.questions.evaluation.len()
            ),
            (5, 20, 40)
        );
        let file = ready_made(name);
        let metadata = &file.metadata;
        assert_eq!(metadata.name.as_deref(), Some(name));
        assert_eq!(metadata.opposite.as_deref(), Some(parsed.opposite.as_str()));
        assert_eq!(metadata.model_sha256, model_sha256, "{name}");
        assert_eq!(
            metadata.trait_sha256.as_deref(),
            Some(sha256(&pack).as_str()),
            "{name} was made from another version of its trait pack"
        );
        let vector = file.into_vector(name, None, 31, 576).unwrap();
        assert!(vector.calibration.is_some() && vector.neutral_norm.is_some());
        let recommended = vector.recommended.unwrap();
        assert!(
            // Against the trait only where the flipped push left the text whole.
            recommended.min <= 0.0 && recommended.max > 0.0,
            "{name}: {recommended:?}"
        );
    }
}
