//! Fields of what is stored.

/// A field that holds what it may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} '{value}' is not {rule}")]
pub struct FieldError {
    /// The field's name.
    pub field: &'static str,
    /// What it holds.
    pub value: String,
    /// What it must be; completes "is not …".
    pub rule: &'static str,
}
