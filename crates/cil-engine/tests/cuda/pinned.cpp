// Page-locked memory of the host. The emulator copies at once, a GPU when it comes to it: so what an upload reads here is
// kept in mind until the host has waited for it, and must not have changed by then.

#include "emulator.h"

struct Reading {
    const char *from;
    std::vector<char> what;
    void *behind; // the event that was recorded after it, if one was
};
static std::map<char *, size_t> locked;
static std::vector<Reading> readings;

API int cuMemHostAlloc(void **to, size_t bytes, unsigned) {
    TURN;
    char *memory = (char *)malloc(bytes ? bytes : 1);
    memset(memory, 0xff, bytes);
    locked[memory] = bytes;
    *to = memory;
    return 0;
}

API int cuMemFreeHost(void *memory) {
    TURN;
    auto found = locked.find((char *)memory);
    if (found == locked.end()) give_up("page-locked memory is freed that was never given");
    for (auto &it : readings)
        if (it.from >= found->first && it.from < found->first + found->second)
            give_up("page-locked memory is freed while an upload may be reading it");
    locked.erase(found);
    free(memory);
    return 0;
}

bool read_later(const void *address, size_t bytes) {
    const char *from = (const char *)address;
    auto after = locked.upper_bound((char *)from);
    if (after == locked.begin()) return true;
    auto found = std::prev(after);
    if (from + bytes > found->first + found->second) return true; // pageable: the driver has it when the call returns
    for (auto &it : readings)
        if (from < it.from + it.what.size() && it.from < from + bytes) return false;
    readings.push_back({from, std::vector<char>(from, from + bytes), nullptr});
    return true;
}

// Which readings end, and whether the host has left them alone.
template <typename Ends> static bool end_readings(const Ends &ends) {
    bool same = true;
    std::vector<Reading> left;
    for (auto &it : readings) {
        if (ends(it))
            same &= !memcmp(it.from, it.what.data(), it.what.size());
        else
            left.push_back(std::move(it));
    }
    readings = std::move(left);
    return same;
}
bool read_until(void *event) {
    // The stream's order: what is behind an event is behind all that was submitted before it.
    size_t last = 0;
    for (size_t at = 0; at < readings.size(); at++)
        if (readings[at].behind == event) last = at + 1;
    const Reading *first = readings.data();
    return end_readings([=](const Reading &it) { return (size_t)(&it - first) < last; });
}
bool all_read() {
    return end_readings([](const Reading &) { return true; });
}

API int cuEventCreate(void **event, unsigned) {
    *event = new_handle();
    return 0;
}
void read_behind(void *event) {
    for (auto &it : readings)
        if (!it.behind) it.behind = event;
}
