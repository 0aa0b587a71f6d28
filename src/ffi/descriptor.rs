//! The rules of `struct_size`, by which callers and libraries of different age understand each other.
//!
//! Every struct that crosses the line begins with `uint32_t struct_size`, the size the caller's
//! compiler gave it, and fields are only ever added at the end.

use std::mem::MaybeUninit;
use std::ptr;

use super::guard::null;
use crate::error::{Error, Result};

/// Far above any size a struct will grow to, far below what would read into unmapped memory by the
/// page: a larger `struct_size` is memory that was never initialised.
const LARGEST: usize = 4096;

/// A struct of the C ABI.
///
/// # Safety
/// The type is `repr(C)`, begins with a `u32` `struct_size`, and all bytes zero is a valid value.
pub(super) unsafe trait Versioned: Copy {
    /// The name in C.
    const NAME: &'static str;
    /// The macro that initialises it in C.
    const INIT: &'static str;
}

/// The caller's size of `*pointer`, checked.
///
/// # Safety
/// `pointer` is NULL or valid for reads of a `u32`.
unsafe fn caller_size<T: Versioned>(pointer: *const T, argument: &str) -> Result<usize> {
    if pointer.is_null() {
        return Err(null(argument));
    }
    // SAFETY: not NULL, and the struct begins with the u32 (both by contract). Unaligned, because a
    // host written by hand (a script's byte buffer) may not align as a C compiler does.
    let size = unsafe { pointer.cast::<u32>().read_unaligned() } as usize;
    // Sizes between multiples of the alignment would cut a field in two.
    if size == 0 || size > LARGEST || !size.is_multiple_of(align_of::<T>()) {
        return Err(Error::invalid_argument(format!(
            "{argument}: struct_size is {size}, expected sizeof({}), {} in this version; initialise it with {}",
            T::NAME,
            size_of::<T>(),
            T::INIT
        )));
    }
    Ok(size)
}

/// Reads a descriptor. An older caller's is shorter: the fields it does not have are zero, which
/// means default. A newer caller's is longer: it is accepted while the fields unknown here are zero.
///
/// # Safety
/// `pointer` is NULL or valid for reads of the `struct_size` bytes it declares.
pub(super) unsafe fn read<T: Versioned>(pointer: *const T, argument: &str) -> Result<T> {
    // SAFETY: by this function's contract.
    let size = unsafe { caller_size(pointer, argument) }?;
    let known = size.min(size_of::<T>());
    let bytes = pointer.cast::<u8>();
    for offset in known..size {
        // SAFETY: offset < size, which the caller declared readable.
        let byte = unsafe { bytes.add(offset).read() };
        if byte != 0 {
            return Err(Error::invalid_argument(format!(
                "{argument}: struct_size is {size} and byte {offset} is {byte:#04x}, but this version knows {known} bytes \
                 of {} and expects zeros after them: update the library, or leave the newer fields zero",
                T::NAME
            )));
        }
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: `known` bytes are readable (declared by the caller) and fit into `value`; the two do
    // not overlap, `value` being new. All-zero is a valid T (contract of `Versioned`), and so is it
    // with a prefix of whole fields overwritten by the caller's integers and pointers.
    unsafe {
        ptr::copy_nonoverlapping(bytes, value.as_mut_ptr().cast::<u8>(), known);
        Ok(value.assume_init())
    }
}

/// Checks that `pointer` can take a `T`, before any work whose result would be lost.
///
/// # Safety
/// `pointer` is NULL or valid for reads of a `u32`.
pub(super) unsafe fn check_out<T: Versioned>(pointer: *const T, argument: &str) -> Result<()> {
    // SAFETY: by this function's contract.
    unsafe { caller_size(pointer, argument) }.map(drop)
}

/// Writes as much of `value` as the caller's struct has room for; its `struct_size` stays.
///
/// # Safety
/// `pointer` is NULL or valid for reads and writes of the `struct_size` bytes it declares.
pub(super) unsafe fn write<T: Versioned>(value: &T, pointer: *mut T, argument: &str) -> Result<()> {
    // SAFETY: by this function's contract.
    let size = unsafe { caller_size(pointer, argument) }?;
    let skip = size_of::<u32>();
    let count = size.min(size_of::<T>()) - skip;
    // SAFETY: the caller declared `size` bytes writable and `value` has size_of::<T>(); after the
    // first `skip` of them `count` are in both. `value` is ours, so they do not overlap.
    unsafe {
        let source = ptr::from_ref(value).cast::<u8>().add(skip);
        ptr::copy_nonoverlapping(source, pointer.cast::<u8>().add(skip), count);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Sample {
        struct_size: u32,
        steps: u32,
        seed: u64,
    }

    // SAFETY: repr(C), begins with struct_size, integers only.
    unsafe impl Versioned for Sample {
        const NAME: &'static str = "sample";
        const INIT: &'static str = "SAMPLE_INIT";
    }

    /// What a caller of another age would pass: its own bytes, aligned, with its own size in front.
    #[repr(C, align(8))]
    struct Caller([u8; 32]);

    fn caller(size: u32, fill: u8) -> Caller {
        let mut bytes = [fill; 32];
        bytes[..4].copy_from_slice(&size.to_ne_bytes());
        bytes[4..8].copy_from_slice(&20u32.to_ne_bytes());
        bytes[8..16].copy_from_slice(&7u64.to_ne_bytes());
        Caller(bytes)
    }

    fn read_from(bytes: &Caller) -> Result<Sample> {
        // SAFETY: 32 bytes are readable, and no test declares more but ones that are refused.
        unsafe { read(ptr::from_ref(bytes).cast::<Sample>(), "desc") }
    }

    #[test]
    fn same_size_is_read_whole() {
        let sample = read_from(&caller(16, 0xCD)).unwrap();
        assert_eq!((sample.steps, sample.seed), (20, 7));
    }

    #[test]
    fn shorter_reads_no_further_and_the_rest_is_default() {
        let sample = read_from(&caller(8, 0xCD)).unwrap();
        assert_eq!((sample.steps, sample.seed), (20, 0));
    }

    #[test]
    fn longer_is_accepted_with_a_zero_tail_and_refused_with_any_other() {
        assert_eq!(read_from(&caller(24, 0)).unwrap().seed, 7);
        let error = read_from(&caller(24, 0xCD)).err().unwrap();
        assert!(error.message().contains("byte 16 is 0xcd"), "{error}");
    }

    #[test]
    fn sizes_that_no_compiler_gives_are_refused() {
        for size in [0, 1, 4, 12, 4104, 0xCDCD_CDCD] {
            let error = read_from(&caller(size, 0)).err().unwrap();
            assert!(error.message().contains(&format!("struct_size is {size}")), "{error}");
            assert!(error.message().contains("SAMPLE_INIT"), "{error}");
        }
    }

    #[test]
    fn writing_leaves_the_size_and_what_lies_behind_alone() {
        let value = Sample { struct_size: 16, steps: 50, seed: 9 };
        let mut older = caller(8, 0xCD);
        // SAFETY: 32 bytes are writable, 8 declared.
        unsafe { write(&value, ptr::from_mut(&mut older).cast::<Sample>(), "out") }.unwrap();
        assert_eq!(older.0[..4], 8u32.to_ne_bytes());
        assert_eq!(older.0[4..8], 50u32.to_ne_bytes());
        assert_eq!(older.0[8..16], 7u64.to_ne_bytes());
    }

    #[test]
    fn null_is_refused_by_name() {
        // SAFETY: NULL is allowed.
        let error = unsafe { read(ptr::null::<Sample>(), "desc") }.err().unwrap();
        assert_eq!(error.message(), "desc: found NULL, expected a valid pointer");
    }
}
