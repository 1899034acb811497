// The simulator's checking mode: In<T>, Out<T>, InOut<T> and SHARED as spans that look at each access.
// Behind every element stands a record of who wrote it and who read it, and when. That is enough to
// name, with the line of the kernel:
//
//     an index outside of its array           a read of shared memory or of an Out that nothing wrote
//     two threads of which one writes what the other reads or writes, with no barrier or atomic between
//     a result that depends on the order in which threads run (each launch is repeated in several)
#ifndef TINYNET_CHECKS_H
#define TINYNET_CHECKS_H

namespace simulator {

// ---- Who touched an element, and when ------------------------------------------------------------

struct Access {
    unsigned block1;         // number of the block + 1; 0: nobody
    unsigned clock;          // how many barriers its block had passed
    unsigned line : 20, thread : 11, atomic : 1;
};
struct Cell { Access write, read, other_read; };

struct Array {
    const char* name;
    char* data;
    long long count;
    int size, cols;          // bytes of an element; cols > 0: shown as name[row][col]
    char access;             // 'I'n, 'O'ut, 'B'oth, or 'S'hared
    Cell* cells;
    int cells_each;          // cells an element; arrays that overlap share theirs
};

static Access now(Where where, bool atomic) {
    return {unsigned(block) + 1, clock_, unsigned(where.line), unsigned(number(self)), atomic};
}

// Is it certain that `a` came before what the running thread does now? Blocks are never ordered; the
// threads of one are by __syncthreads, those of a warp by __syncwarp also (a shuffle orders no memory).
static bool ordered(const Access& a) {
    if (a.block1 == 0) return true;
    if (a.block1 != unsigned(block) + 1) return false;
    if (a.clock < block_sync || int(a.thread) == number(self)) return true;
    return int(a.thread) / warpSize == warp_of(self) && a.clock < self->warp_sync;
}

static Words element(const Array* array, long long i) {
    Words words;
    if (array->cols) {
        long long row = i / array->cols - (i < 0 && i % array->cols ? 1 : 0);
        snprintf(words.text, sizeof words.text, "%s[%lld][%lld]", array->name, row, i - row * array->cols);
    } else {
        snprintf(words.text, sizeof words.text, "%s[%lld]", array->name, i);
    }
    return words;
}

[[noreturn]] static void race(const Array* array, long long i, Where where, const char* does, const char* did,
                              const Access& a) {
    const Thread* other = &threads[a.thread];
    bool same_block = a.block1 == unsigned(block) + 1;
    char whose[60] = "";
    unsigned b = a.block1 - 1;
    if (!same_block)
        snprintf(whose, sizeof whose, " of block (%u, %u, %u)", b % gridDim.x, b / gridDim.x % gridDim.y,
                 b / gridDim.x / gridDim.y);
    fault(where, "%s %s, which %s%s %s at line %d, %s", does, element(array, i).text, name_of(other).text, whose,
          did, int(a.line), same_block ? "with no barrier between" : "and blocks of a launch are not ordered");
}

NOINLINE static void note_read(const Array* array, long long i, Where where) {
    Cell& cell = array->cells[i * array->cells_each];
    if (cell.write.block1 == 0 && (array->access == 'S' || array->access == 'O'))
        fault(where, "reads %s, which nothing has written yet%s", element(array, i).text,
              array->access == 'O' ? " in this launch (an array with a meaning before it is InOut)" : "");
    if (!ordered(cell.write)) race(array, i, where, "reads", "writes", cell.write);
    (ordered(cell.read) ? cell.read : cell.other_read) = now(where, false);
}

NOINLINE static void note_write(const Array* array, long long i, Where where, bool atomic) {
    Cell& cell = array->cells[i * array->cells_each];
    if (!ordered(cell.write) && !(atomic && cell.write.atomic))
        race(array, i, where, atomic ? "updates" : "writes", cell.write.atomic ? "updates" : "writes", cell.write);
    for (const Access* read : {&cell.read, &cell.other_read})
        if (!ordered(*read)) race(array, i, where, atomic ? "updates" : "writes", "reads", *read);
    cell.write = now(where, atomic);
}

// ---- Spans: what kernels hold instead of pointers ------------------------------------------------

template <typename T> struct Ref;

// An index remembers the line that it was written in: the conversion from a number to an Index happens
// there, and that is where its default arguments are evaluated.
struct Index {
    long long i;
    Where where;
    template <typename I, typename = std::enable_if_t<std::is_integral<I>::value>>
    Index(I i, const char* file = __builtin_FILE(), int line = __builtin_LINE()) : i((long long)i), where{file, line} {}
    template <typename T>
    Index(const Ref<T>& i, const char* file = __builtin_FILE(), int line = __builtin_LINE())
        : i((long long)T(i)), where{file, line} {}
};

template <typename T> struct Address { Array* array; long long i; Where where; };    // &span[i], for atomics

template <typename T> static T& at(const Array* array, long long i) {
    return reinterpret_cast<T*>(array->data)[i];
}

// An element that can be written: looks like a T&.
template <typename T> struct Ref {
    Array* array;
    long long i;
    Where where;
    operator T() const {
        note_read(array, i, where);
        return at<T>(array, i);
    }
    template <typename U, typename = std::enable_if_t<std::is_class<T>::value && std::is_arithmetic<U>::value>>
    explicit operator U() const { return U(T(*this)); }      // float(x) of a half: C++ makes only one step by itself
    const Ref& operator=(const T& value) const {
        note_write(array, i, where, false);
        at<T>(array, i) = value;
        return *this;
    }
    const Ref& operator=(const Ref& other) const { return *this = T(other); }
    Ref(const Ref&) = default;
    Ref(Array* array, long long i, Where where) : array(array), i(i), where(where) {}
    template <typename V> const Ref& operator+=(V v) const { return *this = T(T(*this) + v); }
    template <typename V> const Ref& operator-=(V v) const { return *this = T(T(*this) - v); }
    template <typename V> const Ref& operator*=(V v) const { return *this = T(T(*this) * v); }
    template <typename V> const Ref& operator/=(V v) const { return *this = T(T(*this) / v); }
    T operator++() const { return *this += 1; }
    T operator++(int) const {
        T old = *this;
        *this = T(old + 1);
        return old;
    }
    Address<T> operator&() const { return {array, i, where}; }
};

NOINLINE static void check_range(const Array* array, long long i, long long low, long long high, Where where,
                             const char* does) {
    last_seen = where;
    if (++steps > ENDLESS_LOOP) fault(where, "goes round a loop without end");
    if (!array) fault(where, "%s an array that was not given (None)", does);
    if (i < low || i >= high) {
        if (array->cols) {
            long long row = (high - low == array->cols ? low : i) / array->cols;
            fault(where, "%s %s[%lld][%lld], outside of its %lld x %d elements", does, array->name, row,
                  i - row * array->cols, array->count / array->cols, array->cols);
        }
        fault(where, "%s %s, outside of its %lld elements", does, element(array, i).text, array->count);
    }
}

template <typename T> struct Span {
    using Value = std::remove_const_t<T>;
    Array* array;
    long long origin, low, high;    // element 0 of the span; the elements that it may touch

    void check(long long i, Where where, const char* does) const { check_range(array, i, low, high, where, does); }
    auto operator[](Index index) const {
        long long i = origin + index.i;
        check(i, index.where, std::is_const<T>::value ? "reads" : "uses");
        if constexpr (std::is_const<T>::value) {
            note_read(array, i, index.where);
            return Value(at<Value>(array, i));
        } else {
            return Ref<T>(array, i, index.where);
        }
    }
    Value operator*() const { return (*this)[0]; }
    Span operator+(long long n) const { return {array, origin + n, low, high}; }
    Span operator-(long long n) const { return *this + -n; }
    Span& operator+=(long long n) { return *this = *this + n; }
    explicit operator bool() const { return array; }
    operator Span<const Value>() const { return {array, origin, low, high}; }
};

template <typename T, int columns> struct Span2 {
    Array* array;
    Span<T> operator[](Index row) const {
        long long start = row.i * columns;
        Span<T> whole = {array, start, 0, array->count};
        if (row.i < 0 || row.i >= array->count / columns) whole.check(start, row.where, "uses");
        return {array, start, start, start + columns};
    }
};

template <typename T> static T& atomic_cell(Address<T> a) {
    note_write(a.array, a.i, a.where, true);
    return at<T>(a.array, a.i);
}
template <typename T> static T& atomic_cell(T* address) { return *address; }

template <int N, typename T> static char* neighbours(Span<T> span, Index index, bool write) {
    long long first = span.origin + index.i;
    for (long long i = first; i < first + N; i++) {
        span.check(i, index.where, write ? "writes" : "reads");
        if (write) note_write(span.array, i, index.where, false);
        else note_read(span.array, i, index.where);
    }
    char* address = span.array->data + first * (long long)sizeof(T);
    if (size_t(address) % (N * sizeof(T)))
        fault(index.where, "%s %d elements at %s at once, whose address is no multiple of their %d bytes",
              write ? "writes" : "reads", N, element(span.array, first).text, int(N * sizeof(T)));
    return address;
}

// ---- Shared memory -------------------------------------------------------------------------------

static void enter_shared(Array* array, long long* filled) {
    if (*filled == blocks_run) return;
    *filled = blocks_run;
    memset(array->data, 0xff, size_t(array->count) * size_t(array->size));    // NaN, for raw pointers into it
    memset(static_cast<void*>(array->cells), 0, size_t(array->count) * sizeof(Cell));
}

template <typename T, int n, int cols = 0> struct SharedArray {
    alignas(16) char bytes[n * sizeof(T)];
    Cell cells[n];
    Array array;
    long long filled;
    Array* enter(const char* name, WHERE) {
        if (filled != blocks_run) {
            static_bytes += (long long)sizeof bytes;
            if (static_bytes > MOST_STATIC)
                fault(where, "needs %lld bytes of shared memory; SHARED has %lld (DYNAMIC_SHARED has more)",
                      static_bytes, MOST_STATIC);
            array = {name, bytes, n, int(sizeof(T)), cols, 'S', cells, 1};
            enter_shared(&array, &filled);
        }
        return &array;
    }
};

alignas(16) static char dynamic_bytes[228 * 1024];
template <typename T> static Span<T> dynamic_shared(const char* name) {
    static Cell cells[sizeof dynamic_bytes / sizeof(T)];
    static Array array;
    static long long filled;
    array = {name, dynamic_bytes, shared_bytes / (long long)sizeof(T), int(sizeof(T)), 0, 'S', cells, 1};
    enter_shared(&array, &filled);
    return {&array, 0, 0, array.count};
}

// ---- Launch: records for the arrays, several orders, one result ----------------------------------

constexpr int MOST_ARRAYS = 64;

struct Arrays {
    Array array[MOST_ARRAYS];
    int n = 0;

    Array* add(Parameter p, void* data, long long count, int size) {
        array[n] = {p.name, static_cast<char*>(data), count, size, 0, p.access, nullptr, 1};
        return &array[n++];
    }

    static char* end(const Array& a) { return a.data + a.count * a.size; }

    // Arrays that overlap in memory get common records: one cell for each of their smallest elements.
    void make_cells(void** made, int* how_many) {
        *how_many = 0;
        for (int k = 0; k < n; k++) {
            if (array[k].cells || array[k].count == 0) continue;
            char *low = array[k].data, *high = end(array[k]);
            int grain = array[k].size;
            for (bool grown = true; grown;) {
                grown = false;
                for (int j = 0; j < n; j++) {
                    const Array& a = array[j];
                    if (a.count == 0 || a.data >= high || end(a) <= low) continue;
                    if (a.data < low || end(a) > high || a.size < grain) grown = true;
                    low = a.data < low ? a.data : low;
                    high = end(a) > high ? end(a) : high;
                    grain = a.size < grain ? a.size : grain;
                }
            }
            void* cells = calloc(size_t((high - low) / grain + 1), sizeof(Cell));
            made[(*how_many)++] = cells;
            for (int j = 0; j < n; j++) {
                Array& a = array[j];
                if (a.count == 0 || a.data >= high || end(a) <= low) continue;
                a.cells = static_cast<Cell*>(cells) + (a.data - low) / grain;
                a.cells_each = a.size / grain;
            }
        }
    }

    void run(int orders) {
        static const char* const names[] = {"ascending", "descending"};
        char *before[MOST_ARRAYS] = {}, *result[MOST_ARRAYS] = {};
        auto bytes = [&](int k) { return size_t(array[k].count * array[k].size); };
        auto keep = [&](char** copies) {
            for (int k = 0; k < n; k++)
                if (array[k].access != 'I') memcpy(copies[k] = static_cast<char*>(malloc(bytes(k) + 1)), array[k].data, bytes(k));
        };
        auto put_back = [&](char** copies) {
            for (int k = 0; k < n; k++)
                if (copies[k]) memcpy(array[k].data, copies[k], bytes(k));
        };
        keep(before);
        for (int kind = 0; kind < orders && !message[0]; kind++) {
            void* made[MOST_ARRAYS];
            int how_many;
            put_back(before);
            for (int k = 0; k < n; k++) array[k].cells = nullptr;
            make_cells(made, &how_many);
            run_grid(kind);
            if (kind == 0) keep(result);
            else if (!message[0]) compare(result, kind < 2 ? names[kind] : "random");
            for (int k = 0; k < how_many; k++) free(made[k]);
        }
        if (!message[0]) put_back(result);
        for (int k = 0; k < n; k++) {
            free(before[k]);
            free(result[k]);
        }
    }

    void compare(char** result, const char* name) {
        for (int k = 0; k < n; k++) {
            const Array& a = array[k];
            for (long long i = 0; result[k] && i < a.count; i++) {
                if (memcmp(result[k] + i * a.size, a.data + i * a.size, size_t(a.size)) == 0) continue;
                Where where = {last_seen.file, int(a.cells[i * a.cells_each].write.line)};
                snprintf(message, sizeof message, "%s:%d: %s: %s, written here last, depends on the order of the"
                         " threads: its bits differ between ascending and %s (a missing barrier, or a sum of"
                         " floating-point atomics)", where.file, where.line, kernel_name, element(&a, i).text, name);
                return;
            }
        }
    }
};

template <typename A> struct Argument {
    static constexpr size_t bytes = sizeof(A);
    static A take(const Slot* slot, Parameter, Arrays&) {
        A value;
        memcpy(&value, slot, sizeof value);
        return value;
    }
};
template <typename T> struct Argument<Span<T>> {
    static constexpr size_t bytes = sizeof(Slot);
    static Span<T> take(const Slot* slot, Parameter p, Arrays& arrays) {
        if (!slot->data) return {nullptr, 0, 0, 0};
        return {arrays.add(p, slot->data, slot->count, sizeof(T)), 0, 0, slot->count};
    }
};

}  // namespace simulator

template <typename T> using In = simulator::Span<const T>;
template <typename T> using Out = simulator::Span<T>;
template <typename T> using InOut = simulator::Span<T>;
template <typename T> using Shared = simulator::Span<T>;
template <int N, typename T> static Vec<std::remove_const_t<T>, N> load(simulator::Span<T> x, simulator::Index i) {
    Vec<std::remove_const_t<T>, N> v;
    memcpy(&v, simulator::neighbours<N>(x, i, false), sizeof v);
    return v;
}
template <typename T, int N> static void store(simulator::Span<T> y, simulator::Index i, const Vec<T, N>& v) {
    memcpy(simulator::neighbours<N>(y, i, true), &v, sizeof v);
}
#define SHARED(T, name, n)                         \
    static simulator::SharedArray<T, (n)> name##_; \
    const simulator::Span<T> name = {name##_.enter(#name), 0, 0, (n)}
#define SHARED_2D(T, name, rows, cols)                                 \
    static simulator::SharedArray<T, (rows) * (cols), (cols)> name##_; \
    const simulator::Span2<T, (cols)> name = {name##_.enter(#name)}
#define DYNAMIC_SHARED(T, name) const simulator::Span<T> name = simulator::dynamic_shared<T>(#name)

#endif
