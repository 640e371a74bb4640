//! A run as it stands between two steps, in bytes.

use super::adapter::Adapter;
use super::changes::Changes;
use super::error::TrainError;
use super::example::Example;
use super::optimiser::Moments;
use super::settings::Settings;
use std::hash::Hasher;

/// The first bytes of a written state; the last two are its version.
const MAGIC: [u8; 8] = *b"ttrain01";
/// Bytes before the numbers: magic, fingerprint, step, and how many parameters there are.
const HEADER: usize = 28;

/// Tells runs apart: examples, settings, plan and the adapter's shape. The same in every build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

/// FNV-1a.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl Fingerprint {
    pub(super) fn of(
        settings: &Settings,
        changes: &Changes,
        adapter: &Adapter,
        examples: &[Example],
    ) -> Self {
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
        // What decides how fast a run is and not what it learns is left out.
        let Settings {
            epochs,
            examples_a_step,
            shuffle,
            optimiser,
            penalty,
            ..
        } = settings;
        let words = format!(
            "{epochs} {examples_a_step} {shuffle:?} {optimiser:?} {penalty:?} {:?}",
            adapter.config()
        );
        hasher.write(words.as_bytes());
        changes.describe(&mut |bytes| hasher.write(bytes));
        for module in adapter.modules() {
            hasher.write(module.name.as_bytes());
        }
        for example in examples {
            for (token, response) in example.tokens.iter().zip(&example.response) {
                hasher.write(&token.0.to_le_bytes());
                hasher.write(&[u8::from(*response)]);
            }
            hasher.write(&[2]);
        }
        Self(hasher.finish())
    }
}

/// What a run is resumed from.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingState {
    pub fingerprint: Fingerprint,
    /// Steps done.
    pub step: u32,
    /// The adapter's.
    pub parameters: Vec<f32>,
    pub moments: Moments,
}

impl TrainingState {
    /// Little-endian: a header, the parameters, then both moments.
    pub fn to_bytes(&self) -> Vec<u8> {
        let parts = [&self.parameters, &self.moments.first, &self.moments.second];
        let mut bytes = Vec::with_capacity(HEADER + 12 * self.parameters.len());
        bytes.extend(MAGIC);
        bytes.extend(self.fingerprint.0.to_le_bytes());
        bytes.extend(self.step.to_le_bytes());
        bytes.extend((self.parameters.len() as u64).to_le_bytes());
        for part in parts {
            bytes.extend(part.iter().flat_map(|number| number.to_le_bytes()));
        }
        bytes
    }

    /// # Errors
    /// Bytes that are no such state, are cut short or too long, or hold a number that is not finite.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TrainError> {
        let broken = |reason: &str| TrainError::OtherRun {
            reason: reason.into(),
        };
        let (header, numbers) = bytes
            .split_at_checked(HEADER)
            .ok_or_else(|| broken("it is cut short"))?;
        if header[..8] != MAGIC {
            return Err(broken(
                "these bytes are no saved training of this version of the program",
            ));
        }
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&header[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let mut step = [0; 4];
        step.copy_from_slice(&header[16..20]);
        let count = usize::try_from(word(20)).unwrap_or(usize::MAX);
        if count.checked_mul(12) != Some(numbers.len()) {
            return Err(broken("its length is not what its beginning says"));
        }
        let (fours, _) = numbers.as_chunks::<4>();
        let all: Vec<f32> = fours.iter().map(|four| f32::from_le_bytes(*four)).collect();
        if !all.iter().all(|number| number.is_finite()) {
            return Err(broken("it holds a number that is not finite"));
        }
        let part = |index: usize| all[index * count..][..count].to_vec();
        Ok(Self {
            fingerprint: Fingerprint(word(8)),
            step: u32::from_le_bytes(step),
            parameters: part(0),
            moments: Moments {
                first: part(1),
                second: part(2),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> TrainingState {
        TrainingState {
            fingerprint: Fingerprint(0x0123_4567_89ab_cdef),
            step: 77,
            parameters: vec![1.5, -2.0],
            moments: Moments {
                first: vec![0.25, 0.0],
                second: vec![3.0, 4.0],
            },
        }
    }

    #[test]
    fn a_state_survives_being_written() {
        let state = state();
        let bytes = state.to_bytes();
        assert_eq!(bytes.len(), HEADER + 24);
        assert_eq!(TrainingState::from_bytes(&bytes).unwrap(), state);
    }

    #[test]
    fn broken_bytes_are_refused_in_words() {
        let bytes = state().to_bytes();
        for end in 0..bytes.len() {
            assert!(TrainingState::from_bytes(&bytes[..end]).is_err(), "{end}");
        }
        let mut other = bytes.clone();
        other[0] = b'x';
        let told = TrainingState::from_bytes(&other).unwrap_err().to_string();
        assert!(told.contains("no saved training"), "{told}");
        let mut other = bytes.clone();
        other[20] = 3;
        let told = TrainingState::from_bytes(&other).unwrap_err().to_string();
        assert!(told.contains("length"), "{told}");
        // Absurdly many parameters are no reason to reserve memory.
        let mut other = bytes.clone();
        other[20..28].fill(0xff);
        assert!(TrainingState::from_bytes(&other).is_err());
        let mut other = bytes;
        other[HEADER..HEADER + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        let told = TrainingState::from_bytes(&other).unwrap_err().to_string();
        assert!(told.contains("not finite"), "{told}");
    }
}
