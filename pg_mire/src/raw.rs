//! Functions of Postgres without pgrx's guard around each call, for the code that appends: the guard costs 2 µs of the 27
//! that one append takes, and an error that passes through it loses its SQLSTATE of class MI, its CONTEXT and its
//! constraint's name.
//!
//! An error raised in here jumps over our frames to whoever catches it in Postgres. That is sound as long as nothing in
//! these frames needs to be dropped: **whoever calls these functions holds no value with a destructor** (no String, no
//! Vec, no Box, no pgrx wrapper that closes something) across the call. What is open then, Postgres closes by its resource owner
//! and memory context, as it does for C. A Rust panic is still caught by the entry point's `#[pg_guard]`.
#![allow(unsafe_code)]

use core::ffi::{c_char, c_int, c_void};

use pgrx::pg_sys::*;

/// Declares the functions and checks each declaration against pgrx's bindings of the server that is built for.
macro_rules! unguarded {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $returns:ty)?;)*) => {
        unsafe extern "C-unwind" {
            $($(#[$meta])* pub(crate) fn $name($($arg: $type),*) $(-> $returns)?;)*
        }
        $($(#[$meta])* const _: unsafe fn($($type),*) $(-> $returns)? = pgrx::pg_sys::$name;)*
    };
}

unguarded! {
    // Relations and names.
    fn get_namespace_oid(name: *const c_char, missing_ok: bool) -> Oid;
    fn table_open(relation: Oid, mode: LOCKMODE) -> Relation;
    fn table_close(relation: Relation, mode: LOCKMODE);
    fn CacheInvalidateRelcache(relation: Relation);
    fn SPI_gettypeid(descriptor: TupleDesc, column: c_int) -> Oid;
    fn index_open(index: Oid, mode: LOCKMODE) -> Relation;
    fn index_close(index: Relation, mode: LOCKMODE);
    fn GetSysCacheOid(cache: c_int, column: AttrNumber, key1: Datum, key2: Datum, key3: Datum, key4: Datum) -> Oid;
    fn buildoidvector(oids: *const Oid, n: c_int) -> *mut oidvector;
    fn get_func_rettype(function: Oid) -> Oid;

    // Index scans.
    fn ScanKeyEntryInitialize(
        entry: ScanKey, flags: c_int, attribute: AttrNumber, strategy: StrategyNumber, subtype: Oid, collation: Oid,
        procedure: RegProcedure, argument: Datum,
    );
    #[cfg(not(feature = "pg18"))]
    fn index_beginscan(heap: Relation, index: Relation, snapshot: Snapshot, keys: c_int, orderbys: c_int) -> IndexScanDesc;
    #[cfg(feature = "pg18")]
    fn index_beginscan(
        heap: Relation, index: Relation, snapshot: Snapshot, instrument: *mut IndexScanInstrumentation, keys: c_int,
        orderbys: c_int,
    ) -> IndexScanDesc;
    fn index_rescan(scan: IndexScanDesc, keys: ScanKey, nkeys: c_int, orderbys: ScanKey, norderbys: c_int);
    fn index_getnext_slot(scan: IndexScanDesc, direction: ScanDirection::Type, slot: *mut TupleTableSlot) -> bool;
    fn index_endscan(scan: IndexScanDesc);

    // Pages and the map of free space.
    fn ReadBuffer(table: Relation, page: BlockNumber) -> Buffer;
    fn LockBuffer(buffer: Buffer, mode: c_int);
    fn UnlockReleaseBuffer(buffer: Buffer);
    fn GetPageWithFreeSpace(table: Relation, bytes: Size) -> BlockNumber;
    fn RecordPageWithFreeSpace(table: Relation, page: BlockNumber, bytes: Size);
    fn RecordAndGetPageWithFreeSpace(table: Relation, page: BlockNumber, bytes: Size, wanted: Size) -> BlockNumber;

    // Slots and the executor's index maintenance.
    fn MakeSingleTupleTableSlot(descriptor: TupleDesc, ops: *const TupleTableSlotOps) -> *mut TupleTableSlot;
    fn table_slot_callbacks(relation: Relation) -> *const TupleTableSlotOps;
    fn ExecDropSingleTupleTableSlot(slot: *mut TupleTableSlot);
    fn ExecStoreVirtualTuple(slot: *mut TupleTableSlot) -> *mut TupleTableSlot;
    fn slot_getsomeattrs_int(slot: *mut TupleTableSlot, attribute: c_int);
    fn CreateExecutorState() -> *mut EState;
    fn FreeExecutorState(estate: *mut EState);
    fn MakePerTupleExprContext(estate: *mut EState) -> *mut ExprContext;
    fn MemoryContextReset(context: MemoryContext);
    fn InitResultRelInfo(
        result: *mut ResultRelInfo, relation: Relation, index: Index, root: *mut ResultRelInfo, instrument: c_int,
    );
    fn ExecOpenIndices(result: *mut ResultRelInfo, speculative: bool);
    fn ExecCloseIndices(result: *mut ResultRelInfo);
    fn ExecConstraints(result: *mut ResultRelInfo, slot: *mut TupleTableSlot, estate: *mut EState);
    #[cfg(any(feature = "pg14", feature = "pg15"))]
    fn ExecInsertIndexTuples(
        result: *mut ResultRelInfo, slot: *mut TupleTableSlot, estate: *mut EState, update: bool, no_dup_err: bool,
        conflict: *mut bool, arbiters: *mut List,
    ) -> *mut List;
    #[cfg(not(any(feature = "pg14", feature = "pg15")))]
    fn ExecInsertIndexTuples(
        result: *mut ResultRelInfo, slot: *mut TupleTableSlot, estate: *mut EState, update: bool, no_dup_err: bool,
        conflict: *mut bool, arbiters: *mut List, only_summarizing: bool,
    ) -> *mut List;
    fn lappend_oid(list: *mut List, oid: Oid) -> *mut List;

    // Transactions, snapshots, locks.
    fn PreventCommandIfReadOnly(command: *const c_char);
    fn PreventCommandIfParallelMode(command: *const c_char);
    fn ProcessInterrupts();
    fn GetTransactionSnapshot() -> Snapshot;
    fn RegisterSnapshot(snapshot: Snapshot) -> Snapshot;
    fn UnregisterSnapshot(snapshot: Snapshot);
    fn PushActiveSnapshot(snapshot: Snapshot);
    fn PopActiveSnapshot();
    fn GetActiveSnapshot() -> Snapshot;
    fn GetCurrentTransactionId() -> TransactionId;
    fn GetCurrentCommandId(used: bool) -> CommandId;
    fn CommandCounterIncrement();
    fn SpeculativeInsertionLockAcquire(xid: TransactionId) -> uint32;
    fn SpeculativeInsertionLockRelease(xid: TransactionId);
    fn SpeculativeInsertionWait(xid: TransactionId, token: uint32);
    fn XactLockTableWait(xid: TransactionId, relation: Relation, tid: ItemPointer, what: XLTW_Oper::Type);
    fn LockAcquire(tag: *const LOCKTAG, mode: LOCKMODE, session: bool, dont_wait: bool) -> LockAcquireResult::Type;
    #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
    fn LockHeldByMe(tag: *const LOCKTAG, mode: LOCKMODE) -> bool;
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    fn LockHeldByMe(tag: *const LOCKTAG, mode: LOCKMODE, or_stronger: bool) -> bool;

    // Values.
    fn palloc(size: Size) -> *mut c_void;
    fn pg_detoast_datum(datum: *mut varlena) -> *mut varlena;
    fn pg_detoast_datum_packed(datum: *mut varlena) -> *mut varlena;
    fn toast_datum_size(value: Datum) -> Size;
    fn cstring_to_text_with_len(bytes: *const c_char, length: c_int) -> *mut text;
    fn deconstruct_array(
        array: *mut ArrayType, element: Oid, length: c_int, by_value: bool, align: c_char, items: *mut *mut Datum,
        nulls: *mut *mut bool, count: *mut c_int,
    );
    fn GetCurrentTimestamp() -> TimestampTz;
    fn fmgr_info(function: Oid, info: *mut FmgrInfo);
    fn DirectFunctionCall1Coll(function: PGFunction, collation: Oid, argument: Datum) -> Datum;
    fn nextval_oid(fcinfo: FunctionCallInfo) -> Datum;
    fn jsonb_typeof(fcinfo: FunctionCallInfo) -> Datum;
    fn jsonb_in(fcinfo: FunctionCallInfo) -> Datum;
    fn JsonbToCString(out: StringInfo, container: *mut JsonbContainer, estimate: c_int) -> *mut c_char;
    fn enlargeStringInfo(buffer: StringInfo, needed: c_int);
    fn pfree(pointer: *mut c_void);
    fn md5_text(fcinfo: FunctionCallInfo) -> Datum;
    fn numeric_int8(fcinfo: FunctionCallInfo) -> Datum;
    fn construct_array(
        items: *mut Datum, count: c_int, element: Oid, length: c_int, by_value: bool, align: c_char,
    ) -> *mut ArrayType;

    // The server programming interface, and values in their binary format.
    fn SPI_connect() -> c_int;
    fn SPI_finish() -> c_int;
    fn SPI_prepare(statement: *const c_char, parameters: c_int, types: *mut Oid) -> SPIPlanPtr;
    fn SPI_keepplan(plan: SPIPlanPtr) -> c_int;
    fn SPI_execute_plan(
        plan: SPIPlanPtr, values: *mut Datum, nulls: *const c_char, read_only: bool, count: core::ffi::c_long,
    ) -> c_int;
    fn SPI_freetuptable(table: *mut SPITupleTable);
    fn text_to_cstring(text: *const text) -> *mut c_char;
    fn getTypeBinaryInputInfo(kind: Oid, function: *mut Oid, of: *mut Oid);
    fn ReceiveFunctionCall(function: *mut FmgrInfo, bytes: StringInfo, of: Oid, modifier: int32) -> Datum;
    fn AllocSetContextCreateInternal(
        parent: MemoryContext, name: *const c_char, least: Size, first: Size, most: Size,
    ) -> MemoryContext;

    // JSON.
    fn getKeyJsonValueFromContainer(
        object: *mut JsonbContainer, key: *const c_char, length: c_int, result: *mut JsonbValue,
    ) -> *mut JsonbValue;
    fn getIthJsonbValueFromContainer(array: *mut JsonbContainer, n: uint32) -> *mut JsonbValue;
    fn pushJsonbValue(
        state: *mut *mut JsonbParseState, token: JsonbIteratorToken::Type, value: *mut JsonbValue,
    ) -> *mut JsonbValue;
    fn JsonbValueToJsonb(value: *mut JsonbValue) -> *mut Jsonb;

    // Results.
    fn lookup_rowtype_tupdesc(type_id: Oid, modifier: int32) -> TupleDesc;
    fn lookup_rowtype_tupdesc_copy(type_id: Oid, modifier: int32) -> TupleDesc;
    fn DecrTupleDescRefCount(descriptor: TupleDesc);
    fn HeapTupleHeaderGetDatum(tuple: HeapTupleHeader) -> Datum;
    fn tuplestore_begin_heap(random: bool, across_transactions: bool, kilobytes: c_int) -> *mut Tuplestorestate;
}

// These take pointers to const in newer versions; for the call it is all one.
unsafe extern "C-unwind" {
    pub(crate) fn PageGetHeapFreeSpace(page: Page) -> Size;
    pub(crate) fn heap_form_tuple(
        descriptor: TupleDesc,
        values: *mut Datum,
        nulls: *mut bool,
    ) -> HeapTuple;
    pub(crate) fn tuplestore_putvalues(
        store: *mut Tuplestorestate,
        descriptor: TupleDesc,
        values: *mut Datum,
        nulls: *mut bool,
    );
}

/// CHECK_FOR_INTERRUPTS: every loop that waits or writes passes here.
///
/// # Safety
/// As for the module: nothing to drop.
pub(crate) unsafe fn check_for_interrupts() {
    // SAFETY: a flag that signal handlers of this very thread set.
    unsafe {
        if InterruptPending != 0 {
            ProcessInterrupts();
        }
    }
}

/// A text of these bytes in the current memory context.
///
/// # Safety
/// As for the module: nothing to drop.
pub(crate) unsafe fn text(bytes: &[u8]) -> Datum {
    // SAFETY: copies so many bytes, which are no more than a text of at most 1 GB had.
    unsafe { cstring_to_text_with_len(bytes.as_ptr().cast(), bytes.len() as c_int) }.into()
}

/// Room for so many values in the current memory context. What is in it is undefined.
///
/// # Safety
/// As for the module: nothing to drop; and the values are written before they are read.
pub(crate) unsafe fn room<T: Copy>(count: usize) -> *mut T {
    // palloc aligns for eight bytes.
    const { assert!(align_of::<T>() <= 8) };
    // SAFETY: palloc raises when it cannot.
    unsafe { palloc(count.max(1) * size_of::<T>()) }.cast()
}
