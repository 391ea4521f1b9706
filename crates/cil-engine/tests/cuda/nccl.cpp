// NCCL between ranks of this machine, threads or processes, each with a GPU of its own: what a rank has lies in a file of
// its own in memory, and the others read it there. As with a real one, a rank that comes to an operation waits for the
// others; a rank that comes with another operation ends its process, and so does one that waits for a minute. It moves
// bytes, the only type that is asked for, and is never captured.

#include "emulator.h"
#include <atomic>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

struct Id {
    char bytes[128];
};
enum Kind { SEND, RECEIVE, BROADCAST, GATHER };
struct Operation {
    Kind kind;
    int other; // a rank: whom it goes to or comes from, or who has it
    size_t bytes;
    const char *from;
    char *to;
};
typedef std::vector<Operation> Operations;

static const int MOST_RANKS = 16;
struct Place { // what all ranks of a job see
    std::atomic<int> joined, here;
    std::atomic<unsigned> met;
    std::atomic<uintptr_t> contexts[MOST_RANKS]; // of the ranks' GPUs
};
struct Communicator {
    Place *place;
    int rank, count;
    std::vector<int> files; // by rank: what it brought to this meeting, each operation followed by its bytes
};
static __thread int depth;
static thread_local std::vector<std::pair<Communicator *, Operation>> collected;
static const int INVALID_ARGUMENT = 4, INVALID_USAGE = 5;
extern "C" int cuCtxGetCurrent(void **context);

template <typename Until> static void wait(const Until &until) {
    for (int turn = 0; !until(); turn++) {
        if (turn > 600000) give_up("NCCL: a rank waits for one that does not come");
        usleep(100);
    }
}

static void meet(const Communicator &of) {
    unsigned meeting = of.place->met;
    if (of.place->here.fetch_add(1) + 1 == of.count) {
        of.place->here = 0;
        of.place->met++;
    }
    wait([&] { return of.place->met != meeting; });
}

static void put(int file, size_t &at, const void *from, size_t bytes) {
    if (pwrite(file, from, bytes, (off_t)at) != (ssize_t)bytes) give_up("NCCL: there is no room in /dev/shm");
    at += bytes;
}
static void take(int file, size_t at, void *to, size_t bytes) {
    if (pread(file, to, bytes, (off_t)at) != (ssize_t)bytes) give_up("NCCL: a rank brought less than was said");
}

// Whether a rank has bytes for others in this operation.
static bool brings(const Operation &it, int rank) {
    return it.kind == SEND || it.kind == GATHER || (it.kind == BROADCAST && it.other == rank);
}

// Writes to `to` what `rank` brought to the operation that `is_it` picks of its.
template <typename Pick> static void fetch(const Communicator &of, int rank, size_t bytes, char *to, const Pick &is_it) {
    size_t at = sizeof(size_t), count;
    take(of.files[rank], 0, &count, sizeof count);
    for (size_t number = 0; number < count; number++) {
        Operation it;
        take(of.files[rank], at, &it, sizeof it);
        at += sizeof it;
        if (is_it(number, it)) {
            if (it.bytes != bytes) give_up("NCCL: ranks disagree on a number of bytes");
            return take(of.files[rank], at, to, bytes);
        }
        if (brings(it, rank)) at += it.bytes;
    }
    give_up("NCCL: ranks come with different operations");
}

static void perform(Communicator *of, const Operations &all) {
    if (skip) return;
    if (is_capturing()) give_up("NCCL: an operation is captured");
    size_t at = 0, count = all.size();
    int own = of->files[of->rank];
    put(own, at, &count, sizeof count);
    for (const Operation &it : all) {
        put(own, at, &it, sizeof it);
        if (brings(it, of->rank)) put(own, at, it.from, it.bytes);
    }
    meet(*of);
    std::vector<int> receipts(of->count);
    for (size_t number = 0; number < all.size(); number++) {
        const Operation &it = all[number];
        if (it.kind == SEND) continue;
        if (it.kind == RECEIVE) {
            int left = receipts[it.other]++; // sends to this rank before the one that is looked for
            fetch(*of, it.other, it.bytes, it.to, [&](size_t, const Operation &their) {
                return their.kind == SEND && their.other == of->rank && left-- == 0;
            });
            continue;
        }
        auto same = [&](size_t at, const Operation &their) {
            return at == number && their.kind == it.kind && their.other == it.other;
        };
        if (it.kind == BROADCAST) fetch(*of, it.other, it.bytes, it.to, same);
        for (int rank = 0; it.kind == GATHER && rank < of->count; rank++)
            fetch(*of, rank, it.bytes, it.to + rank * it.bytes, same);
    }
    // Nobody goes on to overwrite what others still read.
    meet(*of);
}

static int submit_operation(Communicator *of, int type, Operation it) {
    if (type != 0 && type != 1) give_up("NCCL is asked for another type than bytes");
    {
        TURN;
        library_calls++;
    }
    if (depth)
        collected.push_back({of, it});
    else
        perform(of, {it});
    return 0;
}

API int ncclGetVersion(int *version) {
    *version = 22703;
    return 0;
}
API int ncclGetUniqueId(Id *id) {
    static std::atomic<int> made;
    memset(id, 0, sizeof *id);
    snprintf(id->bytes, sizeof id->bytes, "/dev/shm/emulator-nccl-%d-%d", (int)getpid(), ++made);
    return 0;
}
API int ncclCommInitRank(Communicator **to, int count, Id id, int rank) {
    if (count < 1 || count > MOST_RANKS || rank < 0 || rank >= count) return INVALID_ARGUMENT;
    void *context;
    cuCtxGetCurrent(&context);
    auto open_file = [&](const std::string &name) {
        int file = open(name.c_str(), O_RDWR | O_CREAT, 0600);
        if (file < 0) give_up("NCCL: this cannot be opened: ", name.c_str());
        return file;
    };
    std::string name = id.bytes;
    auto of_rank = [&](int rank) { return name + "." + std::to_string(rank); };
    int file = open_file(name);
    if (ftruncate(file, sizeof(Place))) give_up("NCCL: there is no room in /dev/shm");
    void *place = mmap(nullptr, sizeof(Place), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (place == MAP_FAILED) give_up("NCCL: /dev/shm cannot be mapped");
    close(file);
    auto *of = new Communicator{(Place *)place, rank, count, {}};
    of->place->contexts[rank] = (uintptr_t)context;
    of->place->joined++;
    wait([&] { return of->place->joined >= count; });
    for (int other = 0; other < count; other++) of->files.push_back(open_file(of_rank(other)));
    meet(*of);
    // All have what they need: nothing is left behind, however this ends.
    unlink(of_rank(rank).c_str());
    if (rank == 0) unlink(name.c_str());
    for (int other = 0; other < count; other++)
        if (other != rank && of->place->contexts[other] == (uintptr_t)context) return INVALID_USAGE; // two ranks on one GPU
    *to = of;
    return 0;
}
API int ncclGroupStart() {
    depth++;
    return 0;
}
API int ncclGroupEnd() {
    if (depth == 0) return INVALID_USAGE;
    if (--depth || collected.empty()) return 0;
    Operations all;
    for (auto &it : collected) all.push_back(it.second);
    Communicator *of = collected[0].first;
    collected.clear();
    perform(of, all);
    return 0;
}
API int ncclSend(const char *from, size_t count, int type, int other, Communicator *of, void *) {
    return submit_operation(of, type, {SEND, other, count, from, nullptr});
}
API int ncclRecv(char *to, size_t count, int type, int other, Communicator *of, void *) {
    return submit_operation(of, type, {RECEIVE, other, count, nullptr, to});
}
API int ncclBroadcast(const char *from, char *to, size_t count, int type, int other, Communicator *of, void *) {
    return submit_operation(of, type, {BROADCAST, other, count, from, to});
}
API int ncclAllGather(const char *from, char *to, size_t count, int type, Communicator *of, void *) {
    return submit_operation(of, type, {GATHER, 0, count, from, to});
}
API const char *ncclGetErrorString(int error) {
    return error == INVALID_USAGE ? "invalid usage" : error == INVALID_ARGUMENT ? "invalid argument" : "an error";
}
API const char *ncclGetLastError(Communicator *) { return "the emulator says no more"; }
