/*
 * The queue and its waiting, for `spin`: zcipc/ring.py, zcipc/waiting.py, and the loops of zcipc/operations.py around them.
 *
 *     spin -a -DMEMORY=WEAK -DWAITING=BARRIER ring.pml && gcc -O2 -DSAFETY -DCOLLAPSE -o pan pan.c && ./pan
 *     ./pan -r        the steps that lead to an error, if there was one
 *
 * One producer sends MESSAGES messages, each of any length from 0 to MAX_MESSAGE words, and closes; one consumer receives them,
 * and may close before any of them. Names are those of the Python code, in its order; each access to shared memory is one step.
 * Sizes are in words (HEADER is 1), so `padded` is left out.
 *
 * What is claimed:
 *   - each header that is read is the next one published: nothing lost, twice, out of order, invented or of an earlier lap;
 *   - each payload has the words that were written;
 *   - nothing is claimed that the consumer has not finished with;
 *   - a close is noticed, and what was sent before it is received first;
 *   - no deadlock: a sleep has no time limit here, so a lost wake-up leaves a process asleep for ever (an invalid end state).
 *
 * Memory, chosen by -DMEMORY=:
 *   TSO    each process has a FIFO of its stores; they reach memory in order, at any time. x86-64.
 *   PSO    stores to different words reach memory in any order; a store_release after all stores before it.
 *   WEAK   PSO, and loads out of order too. Early: a load may see any value that a word had since it was last looked at, until
 *          a load_acquire or a fence makes the process see the present. Late: the words of a payload may be read after what
 *          follows, but before a store_release. compare_exchange orders no later load. At least as weak as Arm in these.
 * A fence, a compare_exchange and the membarrier wait until what was issued before them is done; that is the same as to force
 * it, because it may be done at any time. Not in any of them: a store that overtakes an earlier load whose value decides
 * whether there is a store; processors do not do that, and for compilers has_room() acquires.
 *
 * Waiting, chosen by -DWAITING=:
 *   BARRIER    the sleeper runs the membarrier
 *   FENCES     both sides run fences
 *   SWITCHING  each side asks for fences with set_fenced() when the other may be running already
 *
 * Broken on purpose, by -DBROKEN_...: see the places where the name stands. tests/test_model.py runs all of it.
 *
 * Left out, because it decides nothing: spinning, TAIL, COUNT. Left out, because other tests look at it: tags, dropped loans,
 * loans viewed after their end (FLOOR), records held while later ones are received (hold), corrupt words, death.
 */

#define TSO 1
#define PSO 2
#define WEAK 3
#ifndef MEMORY
#define MEMORY TSO
#endif

#define BARRIER 1
#define FENCES 2
#define SWITCHING 3
#ifndef WAITING
#define WAITING BARRIER
#endif
#if MEMORY < TSO || MEMORY > WEAK || WAITING < BARRIER || WAITING > SWITCHING
#error no such MEMORY or WAITING
#endif

#ifndef DISTURBANCES
#define DISTURBANCES 1 /* sleeps of each process that may end by themselves, as after a time-out or a signal */
#endif
#ifndef MESSAGES
#define MESSAGES 3
#endif
#define CAPACITY 4
#define DEPTH 4 /* accesses that a process can have issued and not done; machine() has a line for each */

#define HEADER 1
#define EMPTY 0
#define MAX_MESSAGE (CAPACITY - 2 * HEADER)
#define header_of(length) ((length) + 1)
#define length_of(header) ((header) - 1)
#define content_of(message) (message) /* the words of a payload, which taken for a header would be believed */
#define at(position) ((position) % CAPACITY)

/* Shared words: the data area, then the control lines. */
#define HEAD CAPACITY
#define CONSUMER_BELL (CAPACITY + 1)
#define PRODUCER_BELL (CAPACITY + 2)
#define FENCED 2 /* offset of the word that belongs to a bell */
#define WORDS (CAPACITY + 5)

#define AWAKE 0
#define SLEEPING 1
#define CLOSED 2

#define PRODUCER 0
#define CONSUMER 1

/* --- the machine */

#define STORE 0
#define STORE_RELEASE 1
#define LOAD_LATER 2 /* the load of a payload word, and the value it must have */

typedef Accesses {
    byte count;
    byte kind[DEPTH];
    byte address[DEPTH];
    short value[DEPTH]
}

typedef Words {
    short word[WORDS]
}

short memory[WORDS];
Accesses issued[2]; /* by each process, and not yet done; oldest first */
bool asleep[2];     /* on the process's own bell */
byte disturbed[2];  /* sleeps that ended by themselves */

#if MEMORY == WEAK
Words seen[2]; /* of each process: the value that it last saw, or may see next */
#define newest_for(process, where) seen[process].word[where]
/* Only words that the other side changes and this side loads can be stale; the rest need no state. */
#define loads(process, where)                                                                                              \
    ((where) > PRODUCER_BELL || (process == CONSUMER && ((where) < CAPACITY || (where) == PRODUCER_BELL)) ||               \
     (process == PRODUCER && ((where) == HEAD || (where) == CONSUMER_BELL)))
inline see(process, where) {
    if
    :: loads(process, where) -> seen[process].word[where] = memory[where]
    :: else
    fi
}
inline see_all(process) {
    n = 0;
    do
    :: n < WORDS -> see(process, n); n++
    :: else -> break
    od;
    n = 0
}
#else
#define newest_for(process, where) memory[where]
#define see(process, where)
#define see_all(process)
#endif

inline issue(what, where, content) {
    d_step {
        issued[self].count < DEPTH ->
        issued[self].kind[issued[self].count] = what;
        issued[self].address[issued[self].count] = where;
        issued[self].value[issued[self].count] = content;
        issued[self].count++
    }
}

inline store(where, content) { issue(STORE, where, content) }
inline store_release(where, content) { issue(STORE_RELEASE, where, content) }

inline newest(where, result) {
    result = newest_for(self, where);
    n = 0;
    do
    :: n < issued[self].count ->
        if
        :: issued[self].address[n] == (where) && issued[self].kind[n] != LOAD_LATER -> result = issued[self].value[n]
        :: else
        fi;
        n++
    :: else -> break
    od;
    n = 0
}

inline load(where, result) {
    d_step { newest(where, result) }
}

inline load_acquire(where, result) {
    d_step { newest(where, result); see_all(self) }
}

inline fence() {
    d_step { issued[self].count == 0 -> see_all(self) }
}

inline compiler_fence() { skip }

inline membarrier() {
    d_step { issued[PRODUCER].count == 0 && issued[CONSUMER].count == 0 -> see_all(PRODUCER); see_all(CONSUMER) }
}

inline compare_exchange(where, expected, new, found) {
    d_step {
        issued[self].count == 0 ->
        found = memory[where];
        if
        :: found == expected -> memory[where] = new
        :: else
        fi;
        see(self, where)
    }
}

/* The kernel compares and falls asleep in one step; memory, not what the process sees. */
inline futex_wait(bell, expected) {
    asleep[self] = (memory[bell] == expected);
    if
    :: !asleep[self]
    :: d_step { asleep[self] && disturbed[self] < DISTURBANCES -> asleep[self] = false; disturbed[self]++ }
    fi
}

inline futex_wake(bell) {
    asleep[(bell == CONSUMER_BELL -> CONSUMER : PRODUCER)] = false
}

/* One access of those issued is done, if all that must come before it are; else nothing happens. */
inline perform(process, index) {
    d_step {
        index < issued[process].count ->
        n = 0;
        do
        :: n < index && issued[process].address[n] != issued[process].address[index] &&
               issued[process].kind[index] != STORE_RELEASE -> n++
        :: else -> break
        od;
        if
        :: n == index ->
            if
            :: issued[process].kind[n] == LOAD_LATER ->
                assert(newest_for(process, issued[process].address[n]) == issued[process].value[n])
            :: else ->
                memory[issued[process].address[n]] = issued[process].value[n];
                see(process, issued[process].address[n])
            fi;
            issued[process].count--;
            do
            :: n < issued[process].count ->
                issued[process].kind[n] = issued[process].kind[n + 1];
                issued[process].address[n] = issued[process].address[n + 1];
                issued[process].value[n] = issued[process].value[n + 1];
                n++
            :: else -> break
            od;
            issued[process].kind[n] = 0;
            issued[process].address[n] = 0;
            issued[process].value[n] = 0
        :: else
        fi;
        n = 0
    }
}

#define refresh(process, where)                                                                                            \
    d_step {                                                                                                               \
        loads(process, where) && seen[process].word[where] != memory[where] ->                                             \
        seen[process].word[where] = memory[where]                                                                          \
    }

proctype machine() {
    byte n;
end:
    do
    :: perform(PRODUCER, 0)
    :: perform(CONSUMER, 0)
#if MEMORY >= PSO
    :: perform(PRODUCER, 1)
    :: perform(CONSUMER, 1)
    :: perform(PRODUCER, 2)
    :: perform(CONSUMER, 2)
    :: perform(PRODUCER, 3)
    :: perform(CONSUMER, 3)
#endif
#if MEMORY == WEAK
    :: refresh(CONSUMER, 0)
    :: refresh(CONSUMER, 1)
    :: refresh(CONSUMER, 2)
    :: refresh(CONSUMER, 3)
    :: refresh(CONSUMER, PRODUCER_BELL)
    :: refresh(CONSUMER, PRODUCER_BELL + FENCED)
    :: refresh(PRODUCER, HEAD)
    :: refresh(PRODUCER, CONSUMER_BELL)
    :: refresh(PRODUCER, CONSUMER_BELL + FENCED)
#endif
    od
}

/* --- the specification */

chan published = [2 * CAPACITY] of { short }; /* the headers published and not yet read */
byte finished;                                /* the consumer has read all that it will before this position */

inline publishes(header) { published!header }

inline reads(header) {
    if
    :: header != EMPTY ->
        assert(nempty(published));
        published?<expected>;
        assert(header == expected);
        expected = 0
    :: else
    fi
}

inline passes() { published?expected; expected = 0 }

/* --- waiting.py */

inline set_fenced(bell) {
    store(bell + FENCED, 1);
    fence();
#ifndef BROKEN_SWITCH_WITHOUT_MEMBARRIER
    membarrier()
#endif
}

inline ring_bell(bell) {
    load(bell + FENCED, word);
    if
    :: word != 0 ->
#ifndef BROKEN_WAKER_WITHOUT_FENCE
        fence()
#else
        skip
#endif
    :: else -> compiler_fence()
    fi;
    load(bell, word);
    if
    :: word == SLEEPING ->
        compare_exchange(bell, SLEEPING, AWAKE, word);
        if
        :: word == SLEEPING -> futex_wake(bell)
        :: else
        fi
    :: else
    fi;
    word = 0
}

inline close_bell(bell) {
#ifndef BROKEN_CLOSE_RELAXED
    store_release(bell, CLOSED);
#else
    store(bell, CLOSED);
#endif
    fence()
}

inline prepare_to_sleep(bell) {
    compare_exchange(bell, AWAKE, SLEEPING, word);
    load(bell + FENCED, word);
    if
    :: word != 0 ->
#ifndef BROKEN_SLEEPER_WITHOUT_FENCE
        fence()
#else
        skip
#endif
    :: else ->
#ifndef BROKEN_SLEEPER_WITHOUT_MEMBARRIER
        membarrier()
#else
        fence()
#endif
    fi;
    word = 0
}

inline sleep_for_message() {
#ifndef BROKEN_BELL_AFTER_LOOK
    prepare_to_sleep(CONSUMER_BELL);
#endif
    load(at(position), header);
    if
    :: header == EMPTY ->
        load(PRODUCER_BELL, word);
        if
        :: word != CLOSED ->
            word = 0;
#ifdef BROKEN_BELL_AFTER_LOOK
            prepare_to_sleep(CONSUMER_BELL);
#endif
            futex_wait(CONSUMER_BELL, SLEEPING)
        :: else
        fi
    :: else -> header = EMPTY
    fi;
    word = 0
}

inline sleep_for_room() {
#ifndef BROKEN_BELL_AFTER_LOOK
    prepare_to_sleep(PRODUCER_BELL);
#endif
    can_claim();
    if
    :: !room ->
        load(CONSUMER_BELL, word);
        if
        :: word != CLOSED ->
            word = 0;
#ifdef BROKEN_BELL_AFTER_LOOK
            prepare_to_sleep(PRODUCER_BELL);
#endif
            futex_wait(PRODUCER_BELL, SLEEPING)
        :: else
        fi
    :: else
    fi;
    room = false;
    word = 0
}

/* --- ring.py */

inline has_room(until) {
    atomic {
        room = (until + HEADER - CAPACITY <= known_head);
        if
        :: !room ->
            load_acquire(HEAD, head);
            assert(known_head <= head && head <= position); /* else CORRUPT */
            known_head = head;
            head = 0;
            room = (until + HEADER - CAPACITY <= known_head)
        :: else
        fi
    }
}

inline publish(size, header) {
#ifndef BROKEN_NEXT_NOT_CLEARED
    store(at(position + size), EMPTY);
#endif
    atomic {
#ifndef BROKEN_HEADER_RELAXED
        store_release(at(position), header);
#else
        store(at(position), header);
#endif
        publishes(header);
        position = position + size
    }
}

/* In these three, `room` afterwards: whether there is, for `size` words at `position`. */
inline claim() {
    room = (size <= CAPACITY - at(position) && position + size + HEADER - CAPACITY <= known_head);
    assert(!room || position + size + HEADER - CAPACITY <= finished)
}

inline claim_anew() {
    room = true;
    if
    :: size > CAPACITY - at(position) ->
        has_room(position + CAPACITY - at(position));
        if
        :: room -> publish(CAPACITY - at(position), at(position) - CAPACITY)
        :: else
        fi
    :: else
    fi;
    atomic {
        if
        :: room -> has_room(position + size)
        :: else
        fi;
        assert(!room || position + size + HEADER - CAPACITY <= finished)
    }
}

inline can_claim() {
    if
    :: size > CAPACITY - at(position) -> has_room(position + CAPACITY - at(position))
    :: else -> has_room(position + size)
    fi
}

inline peek() {
    atomic {
#ifndef BROKEN_PEEK_RELAXED
        load_acquire(at(position), header);
#else
        load(at(position), header);
#endif
        reads(header)
    }
}

inline pass_gaps() {
    do
    :: peek();
        if
        :: header < 0 ->
            load_acquire(at(position), header);
            advance(position - header)
        :: else -> break
        fi
    od
}

inline advance(until) {
    atomic {
        passes();
        position = until;
        finished = position;
#ifndef BROKEN_HEAD_RELAXED
        store_release(HEAD, position) /* release_until */
#else
        store(HEAD, position)
#endif
    }
}

inline skip_record(header) {
    advance(position + HEADER + length_of(header))
}

/* --- operations.py */

inline write_payload(start) {
    length = 0;
    do
    :: atomic { length < size - HEADER -> store(at(start + HEADER + length), content_of(sent + 1)); length++ }
    :: else -> length = 0; break
    od
}

inline read_payload(start) {
    length = 0;
    do
    :: atomic {
        length < length_of(header) ->
#if MEMORY == WEAK
        issue(LOAD_LATER, at(start + HEADER + length), content_of(received + 1));
#else
        load(at(start + HEADER + length), word);
        assert(word == content_of(received + 1));
        word = 0;
#endif
        length++
    }
    :: else -> length = 0; break
    od
}

proctype producer() {
    byte self = PRODUCER;
    byte n;
    short word;
    byte position, known_head, head, size, length, before, sent;
    bool room;

#if WAITING == SWITCHING
    set_fenced(PRODUCER_BELL);
#endif
    do
    :: atomic { sent < MESSAGES -> select(size : HEADER .. HEADER + MAX_MESSAGE) };
try_claim:
        load(CONSUMER_BELL, word);
        if
        :: word == CLOSED -> goto hang_up
        :: else -> word = 0
        fi;
        claim();
        if
        :: !room ->
            before = position;
            claim_anew();
#ifndef BROKEN_GAP_PUBLISHED_SILENTLY
            if
            :: position != before -> ring_bell(CONSUMER_BELL)
            :: else
            fi;
#endif
            before = 0
        :: else
        fi;
        if
        :: !room ->
            sleep_for_room();
            goto try_claim
        :: else
        fi;
        room = false;
#ifndef BROKEN_HEADER_BEFORE_PAYLOAD
        write_payload(position);
        publish(size, header_of(size - HEADER));
#else
        publish(size, header_of(size - HEADER));
        write_payload(position - size);
#endif
        sent++;
        size = 0;
        ring_bell(CONSUMER_BELL)
    :: else -> break
    od;
hang_up:
    word = 0;
    size = 0;
    close_bell(PRODUCER_BELL);
    ring_bell(CONSUMER_BELL)
}

proctype consumer() {
    byte self = CONSUMER;
    byte n;
    short word, header, expected;
    byte position, length, received;
    bool closed;

#if WAITING == SWITCHING
    set_fenced(CONSUMER_BELL);
#endif
borrow:
    if
    :: skip
    :: goto hang_up
    fi;
    do
    ::
        atomic {
#ifndef BROKEN_CLOSED_READ_RELAXED
            load_acquire(PRODUCER_BELL, word);
#else
            load(PRODUCER_BELL, word);
#endif
            closed = (word == CLOSED);
            word = 0
        };
        peek();
        if
        :: header < 0 ->
            pass_gaps();
#ifndef BROKEN_GAP_PASSED_SILENTLY
            ring_bell(PRODUCER_BELL)
#endif
        :: else
        fi;
        if
        :: header != EMPTY -> break
        :: header == EMPTY && closed ->
            assert(empty(published) && received == MESSAGES);
            goto hang_up
        :: else -> sleep_for_message()
        fi
    od;
    closed = false;
#ifndef BROKEN_HEAD_BEFORE_PAYLOAD
    read_payload(position);
    skip_record(header);
#else
    skip_record(header);
    read_payload(position - HEADER - length_of(header));
#endif
    header = EMPTY;
    received++;
    ring_bell(PRODUCER_BELL);
    goto borrow;
hang_up:
    closed = false;
    close_bell(CONSUMER_BELL);
    ring_bell(PRODUCER_BELL)
}

init {
    atomic {
#if WAITING == FENCES
        memory[CONSUMER_BELL + FENCED] = 1;
        memory[PRODUCER_BELL + FENCED] = 1;
#endif
#if MEMORY == WEAK && WAITING == FENCES
        seen[PRODUCER].word[CONSUMER_BELL + FENCED] = 1;
        seen[PRODUCER].word[PRODUCER_BELL + FENCED] = 1;
        seen[CONSUMER].word[CONSUMER_BELL + FENCED] = 1;
        seen[CONSUMER].word[PRODUCER_BELL + FENCED] = 1;
#endif
        run machine();
        run producer();
        run consumer()
    }
}
