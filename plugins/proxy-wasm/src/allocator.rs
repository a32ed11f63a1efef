//! The module's allocator: a block that is freed waits, in a list of its size, for the next that wants one.
//!
//! A request takes some hundred small blocks and frees them again, of the same sizes as the request before. The C library's
//! allocator, which Rust's target uses, spends some 150 WebAssembly instructions on each; a list's first block costs ten. What
//! is larger than [`LARGEST`], or no list has, comes from the C library as before.
//!
//! Limits: a list holds at most [`WAITING`] blocks, all of them together 8.5 MB; what is freed beyond goes back to the C library,
//! which makes larger or smaller ones of it. So nobody fills the memory with free blocks of sizes that nobody wants.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::UnsafeCell,
    ptr,
};

/// Sizes of blocks are whole multiples of this.
const UNIT: usize = 16;
/// Larger blocks have no lists.
const LARGEST: usize = 1024;
const LISTS: usize = LARGEST / UNIT;
/// What each block is aligned to.
const ALIGN: usize = 8;

/// Free blocks of one size that wait.
const WAITING: usize = 256;

/// Free blocks of one size. The first bytes of each are the address of the next.
#[derive(Clone, Copy)]
struct List {
    first: *mut u8,
    len: usize,
}

/// The lists.
pub struct FreeLists(UnsafeCell<[List; LISTS]>);

// SAFETY: it is the allocator of a target without threads; tests use one each.
unsafe impl Sync for FreeLists {}

impl FreeLists {
    /// Without any block.
    pub const fn new() -> Self {
        Self(UnsafeCell::new([List { first: ptr::null_mut(), len: 0 }; LISTS]))
    }

    /// The list of blocks that have that layout; `None` for what has no list.
    fn list(&self, layout: Layout) -> Option<*mut List> {
        let place = layout.size().wrapping_sub(1) / UNIT;
        let listed = place < LISTS && layout.align() <= ALIGN;
        // SAFETY: the place is within the array.
        listed.then(|| unsafe { self.0.get().cast::<List>().add(place) })
    }
}

/// The block that a layout is given: as large as all of its list.
fn block(layout: Layout) -> Layout {
    let size = layout.size().next_multiple_of(UNIT);
    // SAFETY: the alignment is a power of two, and the size at most LARGEST.
    unsafe { Layout::from_size_align_unchecked(size, ALIGN) }
}

// SAFETY: each block is either in use, or once in the list of its size. Callers free it with the layout that they had it by,
// which leads to the same list, and the list has only blocks that are as large as its largest layout.
unsafe impl GlobalAlloc for FreeLists {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(list) = self.list(layout) else {
            // SAFETY: the caller's promise is passed on.
            return unsafe { System.alloc(layout) };
        };
        // SAFETY: the list is this thread's, and its blocks begin with an address.
        unsafe {
            let List { first, len } = *list;
            if first.is_null() {
                return System.alloc(block(layout));
            }
            *list = List { first: first.cast::<*mut u8>().read(), len: len.saturating_sub(1) };
            first
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let Some(list) = self.list(layout) else {
            // SAFETY: it has no list, so it came from there.
            return unsafe { System.dealloc(pointer, layout) };
        };
        // SAFETY: the block is at least UNIT bytes long, aligned for an address, and nobody's any more.
        unsafe {
            let List { first, len } = *list;
            if len >= WAITING {
                return System.dealloc(pointer, block(layout));
            }
            pointer.cast::<*mut u8>().write(first);
            *list = List { first: pointer, len: len.saturating_add(1) };
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the size fits the alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (self.list(layout), self.list(wanted)) {
            (Some(is), Some(shall)) if is == shall => pointer,
            // SAFETY: it came from there, and stays there.
            (None, None) => unsafe { System.realloc(pointer, layout, size) },
            // SAFETY: both blocks have at least the smaller of both sizes, and are not the same.
            _ => unsafe {
                let moved = self.alloc(wanted);
                if !moved.is_null() {
                    ptr::copy_nonoverlapping(pointer, moved, layout.size().min(size));
                    self.dealloc(pointer, layout);
                }
                moved
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block in use, filled with its number.
    struct Used {
        pointer: *mut u8,
        layout: Layout,
        number: u8,
    }

    impl Used {
        fn check(&self) {
            // SAFETY: it is in use, and has been filled.
            let bytes = unsafe { std::slice::from_raw_parts(self.pointer, self.layout.size()) };
            assert!(bytes.iter().all(|byte| *byte == self.number), "{:?} was written over", self.layout);
            assert!(self.pointer.addr().is_multiple_of(self.layout.align()), "{:?}", self.layout);
        }

        fn fill(&self) {
            // SAFETY: it is in use, and so long.
            unsafe { self.pointer.write_bytes(self.number, self.layout.size()) };
        }
    }

    /// Blocks of all sizes come, grow, shrink and go, in an order that looks random and is always the same.
    #[test]
    fn blocks_are_nobody_elses() {
        let lists = FreeLists::new();
        let mut state: u64 = 7;
        let mut draw = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let mut used: Vec<Used> = Vec::new();
        for step in 0..20_000_usize {
            let size = 1 + draw(if step % 7 == 0 { 3 * LARGEST } else { 200 });
            match draw(3) {
                0 if !used.is_empty() => {
                    let gone = used.swap_remove(draw(used.len()));
                    gone.check();
                    // SAFETY: it is in use, and had by that layout.
                    unsafe { lists.dealloc(gone.pointer, gone.layout) };
                }
                1 if !used.is_empty() => {
                    let at = draw(used.len());
                    let one = &mut used[at];
                    one.check();
                    // SAFETY: as above; the size is not 0.
                    one.pointer = unsafe { lists.realloc(one.pointer, one.layout, size) };
                    let kept = one.layout.size().min(size);
                    one.layout = Layout::from_size_align(size, one.layout.align()).unwrap();
                    // SAFETY: it is in use, and so long.
                    let bytes = unsafe { std::slice::from_raw_parts(one.pointer, kept) };
                    assert!(
                        bytes.iter().all(|byte| *byte == one.number),
                        "a block that moved keeps its bytes"
                    );
                    one.fill();
                }
                _ => {
                    let layout = Layout::from_size_align(size, 1 << draw(6)).unwrap();
                    // SAFETY: the size is not 0.
                    let pointer = unsafe { lists.alloc(layout) };
                    let one = Used { pointer, layout, number: u8::try_from(step % 251).unwrap() };
                    one.fill();
                    used.push(one);
                }
            }
        }
        used.iter().for_each(Used::check);
        // SAFETY: as above. What the lists have is the system's to clean.
        used.into_iter().for_each(|one| unsafe { lists.dealloc(one.pointer, one.layout) });
    }

    #[test]
    fn a_list_has_an_end() {
        let lists = FreeLists::new();
        let layout = Layout::from_size_align(100, 8).unwrap();
        // SAFETY: each is freed once, by its layout.
        unsafe {
            let all: Vec<*mut u8> = (0..4 * WAITING).map(|_| lists.alloc(layout)).collect();
            all.into_iter().for_each(|pointer| lists.dealloc(pointer, layout));
            assert_eq!((*lists.list(layout).unwrap()).len, WAITING);
            // What waits is taken before anything is asked of the C library.
            let again: Vec<*mut u8> = (0..WAITING).map(|_| lists.alloc(layout)).collect();
            assert!((*lists.list(layout).unwrap()).first.is_null());
            again.into_iter().for_each(|pointer| lists.dealloc(pointer, layout));
        }
    }

    #[test]
    fn a_freed_block_is_the_next_of_its_size() {
        let lists = FreeLists::new();
        let of = |size| Layout::from_size_align(size, 1).unwrap();
        // SAFETY: sizes are not 0, and blocks are freed with the layouts that they were had by.
        unsafe {
            let first = lists.alloc(of(17));
            lists.dealloc(first, of(17));
            assert_eq!(lists.alloc(of(32)), first);
            assert_eq!(lists.realloc(first, of(32), 20), first, "there is room for it");
            lists.dealloc(first, of(20));
        }
    }
}
