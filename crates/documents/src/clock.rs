//! The clocks of structs: how many came before.

use crate::reader::FaultKind;

/// The greatest clock: libraries keep clocks in 32 bits, some with a sign.
pub(crate) const CLOCK_MAX: u64 = (1 << 31) - 1;

/// The clock after a length.
pub(crate) fn end_of(clock: u64, length: u64) -> Result<u64, FaultKind> {
    let end = clock.checked_add(length).filter(|end| *end <= CLOCK_MAX);
    end.ok_or(FaultKind::Clock)
}
