/** PASIDs of one function that are bound at a time, at the most. */
export const MOST_BINDINGS = 1 << 18;

/** PASIDs of a function that are kept in mind one by one, where the host refused them or their entries are in no order. */
export const MOST_TOLD = 64;
