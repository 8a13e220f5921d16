/* A libnvidia-ml.so.1 whose GPUs are lines of a text file: struct layouts, version checks and return codes as in nvml.h 13.
 *
 * QTOP_FAKE_NVML names the file; it is read again in every call. A line is "key value"; '#' starts a comment line.
 *   count 2                   GPUs listed                     driver 580.159.03        driver version
 *   init_error 9              nvmlInit returns this           call_error 1             so does every other call
 *   log 1                     append each call's name to FILE.calls
 *   0.lost 1                  each call on GPU 0 returns GPU_IS_LOST; other codes may stand for 1 ("0.lost 16")
 *   0.error.READING 3         this reading returns this code  0.hang.READING 2.5       and this one sleeps, seconds
 *   0.READING value           the reading: uuid name pci util mem_util mem_total mem_used mem_reserved temp power
 *                             power_limit power_limit_min power_limit_max power_limit_default sm_mhz mem_mhz sm_max_mhz
 *                             mem_max_mhz reasons reasons_supported pcie_gen pcie_width
 *   0.field.74 123            a field value (0.error.field.74 3: its own return code; 0.field_type.74 1: its value type)
 *   0.proc 1234 1073741824    a compute process, once a line; "na" for memory that the driver will not tell
 * What the file does not say is NOT_SUPPORTED, but for uuid, name and pci, and an empty process list.
 * Errors and hangs also take the names handle, memory, memory_v2, processes, fields, constraints, power_set, locked_clocks.
 * Setters write FILE.state ("0.power_limit 300000", "0.locked_clocks 210 1500"), which goes before FILE when read.
 * Built with -DQTOP_FAKE_OLD it lacks the functions that a driver of 2021 lacks.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NO_PERMISSION = 4,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    GPU_IS_LOST = 15,
    VERSION_MISMATCH = 25,
    UNKNOWN = 999,
};

#define MAX_GPUS 64
#define LINE 512
#define API __attribute__((visibility("default")))

typedef struct { int index; } Device;
typedef unsigned long long u64;

typedef struct { u64 total, free, used; } Memory;
typedef struct { unsigned version; u64 total, reserved, free, used; } MemoryV2;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned pid; u64 used; unsigned instance, compute; } Process;
typedef struct { unsigned pid; u64 used; } ProcessV1;
typedef struct { unsigned version; int sensor; int temperature; } TemperatureV1;
typedef struct {
    char legacy[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
} Pci;
typedef struct {
    unsigned id, scope;
    long long timestamp, latency_us;
    int type, code;
    union { double d; unsigned u; unsigned long ul; u64 ull; long long sll; int i; unsigned short us; } value;
} Field;

_Static_assert(sizeof(MemoryV2) == 40 && sizeof(Process) == 24 && sizeof(Pci) == 68 && sizeof(Field) == 40, "ABI");

static Device devices[MAX_GPUS];
static int users;

/* The file. */

static void path_of(char *out, const char *suffix)
{
    const char *path = getenv("QTOP_FAKE_NVML");
    snprintf(out, LINE, "%s%s", path ? path : "/nonexistent", suffix);
}

/* The value of the (skip+1)th line with this key in FILE+suffix; 0 if there is none. */
static int find(const char *suffix, const char *key, int skip, char *value)
{
    char path[LINE], line[LINE];
    path_of(path, suffix);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    size_t length = strlen(key);
    int found = 0;
    while (!found && fgets(line, sizeof line, file)) {
        if (strncmp(line, key, length) != 0 || line[length] != ' ' || skip-- > 0)
            continue;
        line[strcspn(line, "\r\n")] = 0;
        snprintf(value, LINE, "%s", line + length + 1);
        found = 1;
    }
    fclose(file);
    return found;
}

static int text(const char *key, char *value)
{
    return find(".state", key, 0, value) || find("", key, 0, value);
}

static int number(const char *key, u64 *value)
{
    char raw[LINE];
    if (!text(key, raw))
        return 0;
    *value = strtoull(raw, NULL, 0);
    return 1;
}

static int gpu_text(int gpu, const char *name, char *value)
{
    char key[LINE];
    snprintf(key, sizeof key, "%d.%s", gpu, name);
    return text(key, value);
}

static int gpu_number(int gpu, const char *name, u64 *value)
{
    char key[LINE];
    snprintf(key, sizeof key, "%d.%s", gpu, name);
    return number(key, value);
}

/* What every call goes through. */

static void log_call(const char *call)
{
    u64 on = 0;
    if (!number("log", &on) || !on)
        return;
    char path[LINE], line[LINE];
    path_of(path, ".calls");
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    int length = snprintf(line, sizeof line, "%s\n", call);
    if (write(fd, line, (size_t)length) != length)
        fputs("nvml_fake: the call log cannot be written\n", stderr);
    close(fd);
}

static int enter(const char *call)
{
    u64 code = SUCCESS;
    log_call(call);
    if (number("call_error", &code) && code)
        return (int)code;
    return users > 0 ? SUCCESS : UNINITIALIZED;
}

/* Checks of one reading of one GPU: loss, injected error, injected hang. */
static int enter_gpu(const char *call, void *handle, const char *reading, int *gpu)
{
    int code = enter(call);
    if (code)
        return code;
    Device *device = handle;
    if (device < devices || device >= devices + MAX_GPUS)
        return INVALID_ARGUMENT;
    *gpu = (int)(device - devices);
    char key[LINE], raw[LINE];
    snprintf(key, sizeof key, "hang.%s", reading);
    if (gpu_text(*gpu, key, raw)) {
        double seconds = strtod(raw, NULL);
        struct timespec left = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
        while (nanosleep(&left, &left) != 0 && errno == EINTR)
            ;
    }
    u64 lost = 0, error = 0;
    if (gpu_number(*gpu, "lost", &lost) && lost)
        return lost == 1 ? GPU_IS_LOST : (int)lost;
    snprintf(key, sizeof key, "error.%s", reading);
    if (gpu_number(*gpu, key, &error) && error)
        return (int)error;
    return SUCCESS;
}

static int get_unsigned(const char *call, void *handle, const char *reading, unsigned *out)
{
    int gpu, code = enter_gpu(call, handle, reading, &gpu);
    if (code)
        return code;
    u64 value;
    if (!out)
        return INVALID_ARGUMENT;
    if (!gpu_number(gpu, reading, &value))
        return NOT_SUPPORTED;
    *out = (unsigned)value;
    return SUCCESS;
}

static int get_u64(const char *call, void *handle, const char *reading, u64 *out)
{
    int gpu, code = enter_gpu(call, handle, reading, &gpu);
    if (code)
        return code;
    if (!out)
        return INVALID_ARGUMENT;
    return gpu_number(gpu, reading, out) ? SUCCESS : NOT_SUPPORTED;
}

static int put(char *out, unsigned size, const char *value)
{
    if (strlen(value) >= size)
        return INSUFFICIENT_SIZE;
    strcpy(out, value);
    return SUCCESS;
}

/* Library. */

API int nvmlInitWithFlags(unsigned flags)
{
    u64 code = SUCCESS;
    (void)flags;
    log_call("nvmlInit");
    if (number("init_error", &code) && code)
        return (int)code;
    users++;
    return SUCCESS;
}

API int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
API int nvmlInit(void) { return nvmlInitWithFlags(0); }

API int nvmlShutdown(void)
{
    log_call("nvmlShutdown");
    if (users <= 0)
        return UNINITIALIZED;
    users--;
    return SUCCESS;
}

API const char *nvmlErrorString(int code)
{
    switch (code) {
    case SUCCESS: return "The operation was successful";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case 8: return "Insufficient External Power";
    case 9: return "Driver Not Loaded";
    case 10: return "Timeout";
    case 11: return "Interrupt Request Issue";
    case 12: return "NVML Shared Library Not Found";
    case 13: return "Function Not Found";
    case 14: return "Corrupted infoROM";
    case GPU_IS_LOST: return "GPU is lost";
    case 16: return "GPU requires reset";
    case 17: return "The operating system has blocked the request";
    case 18: return "Driver/library version mismatch";
    case VERSION_MISMATCH: return "Argument version mismatch";
    default: return "Unknown Error";
    }
}

API int nvmlSystemGetDriverVersion(char *version, unsigned size)
{
    char value[LINE];
    int code = enter("nvmlSystemGetDriverVersion");
    if (code)
        return code;
    return put(version, size, text("driver", value) ? value : "580.159.03");
}

API int nvmlDeviceGetCount_v2(unsigned *count)
{
    u64 value = 0;
    int code = enter("nvmlDeviceGetCount_v2");
    if (code)
        return code;
    number("count", &value);
    *count = value > MAX_GPUS ? MAX_GPUS : (unsigned)value;
    return SUCCESS;
}

API int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle)
{
    u64 count = 0;
    int gpu, code = enter("nvmlDeviceGetHandleByIndex_v2");
    if (code)
        return code;
    number("count", &count);
    if (index >= count || index >= MAX_GPUS || !handle)
        return INVALID_ARGUMENT;
    code = enter_gpu("handle", &devices[index], "handle", &gpu);
    if (code == SUCCESS)
        *handle = &devices[index];
    return code;
}

/* Identity. */

static void uuid_of(int gpu, char *value)
{
    if (!gpu_text(gpu, "uuid", value))
        snprintf(value, LINE, "GPU-00000000-0000-0000-0000-%012d", gpu);
}

API int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle)
{
    char value[LINE];
    u64 count = 0;
    int code = enter("nvmlDeviceGetHandleByUUID");
    if (code)
        return code;
    number("count", &count);
    for (unsigned index = 0; index < count && index < MAX_GPUS; index++) {
        uuid_of((int)index, value);
        if (strcmp(value, uuid) == 0)
            return nvmlDeviceGetHandleByIndex_v2(index, handle);
    }
    return NOT_FOUND;
}

API int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned size)
{
    char value[LINE];
    int gpu, code = enter_gpu("nvmlDeviceGetUUID", handle, "uuid", &gpu);
    if (code)
        return code;
    uuid_of(gpu, value);
    return put(uuid, size, value);
}

API int nvmlDeviceGetIndex(void *handle, unsigned *index)
{
    int gpu, code = enter_gpu("nvmlDeviceGetIndex", handle, "index", &gpu);
    if (code == SUCCESS)
        *index = (unsigned)gpu;
    return code;
}

API int nvmlDeviceGetName(void *handle, char *name, unsigned size)
{
    char value[LINE];
    int gpu, code = enter_gpu("nvmlDeviceGetName", handle, "name", &gpu);
    if (code)
        return code;
    return put(name, size, gpu_text(gpu, "name", value) ? value : "NVIDIA H100 80GB HBM3");
}

API int nvmlDeviceGetPciInfo_v3(void *handle, Pci *pci)
{
    char value[LINE];
    int gpu, code = enter_gpu("nvmlDeviceGetPciInfo_v3", handle, "pci", &gpu);
    if (code)
        return code;
    if (!gpu_text(gpu, "pci", value))
        snprintf(value, sizeof value, "00000000:%02X:00.0", gpu + 1);
    memset(pci, 0, sizeof *pci);
    if (sscanf(value, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device) != 3)
        return UNKNOWN;
    snprintf(pci->legacy, sizeof pci->legacy, "%04X:%02X:%02X.0", pci->domain & 0xffff, pci->bus & 0xff, pci->device & 0xff);
    return put(pci->bus_id, sizeof pci->bus_id, value);
}

/* Readings. */

API int nvmlDeviceGetUtilizationRates(void *handle, Utilization *out)
{
    u64 util, mem_util = 0;
    int gpu, code = enter_gpu("nvmlDeviceGetUtilizationRates", handle, "util", &gpu);
    if (code)
        return code;
    if (!gpu_number(gpu, "util", &util))
        return NOT_SUPPORTED;
    gpu_number(gpu, "mem_util", &mem_util);
    *out = (Utilization){(unsigned)util, (unsigned)mem_util};
    return SUCCESS;
}

static int memory_of(int gpu, MemoryV2 *out)
{
    if (!gpu_number(gpu, "mem_total", &out->total) || !gpu_number(gpu, "mem_used", &out->used))
        return NOT_SUPPORTED;
    out->reserved = 0;
    gpu_number(gpu, "mem_reserved", &out->reserved);
    out->free = out->total - out->used - out->reserved;
    return SUCCESS;
}

API int nvmlDeviceGetMemoryInfo(void *handle, Memory *out)
{
    MemoryV2 all;
    int gpu, code = enter_gpu("nvmlDeviceGetMemoryInfo", handle, "memory", &gpu);
    if (code || (code = memory_of(gpu, &all)))
        return code;
    *out = (Memory){all.total, all.free, all.used + all.reserved};
    return SUCCESS;
}

API int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *out)
{
    return sensor == 0 ? get_unsigned("nvmlDeviceGetTemperature", handle, "temp", out) : INVALID_ARGUMENT;
}

API int nvmlDeviceGetPowerUsage(void *handle, unsigned *out)
{
    return get_unsigned("nvmlDeviceGetPowerUsage", handle, "power", out);
}

/* Ends of the locked range, if the clocks are locked. */
static int locked_of(int gpu, unsigned *low, unsigned *high)
{
    char value[LINE];
    return gpu_text(gpu, "locked_clocks", value) && sscanf(value, "%u %u", low, high) == 2;
}

API int nvmlDeviceGetClockInfo(void *handle, int type, unsigned *out)
{
    if (type != 1 && type != 2)
        return INVALID_ARGUMENT;
    int code = get_unsigned("nvmlDeviceGetClockInfo", handle, type == 1 ? "sm_mhz" : "mem_mhz", out);
    unsigned low, high;
    if (code == SUCCESS && type == 1 && locked_of((int)((Device *)handle - devices), &low, &high))
        *out = *out < low ? low : *out > high ? high : *out;
    return code;
}

API int nvmlDeviceGetMaxClockInfo(void *handle, int type, unsigned *out)
{
    if (type != 1 && type != 2)
        return INVALID_ARGUMENT;
    return get_unsigned("nvmlDeviceGetMaxClockInfo", handle, type == 1 ? "sm_max_mhz" : "mem_max_mhz", out);
}

API int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, u64 *out)
{
    return get_u64("nvmlDeviceGetCurrentClocksThrottleReasons", handle, "reasons", out);
}

API int nvmlDeviceGetSupportedClocksThrottleReasons(void *handle, u64 *out)
{
    return get_u64("nvmlDeviceGetSupportedClocksThrottleReasons", handle, "reasons_supported", out);
}

API int nvmlDeviceGetCurrPcieLinkGeneration(void *handle, unsigned *out)
{
    return get_unsigned("nvmlDeviceGetCurrPcieLinkGeneration", handle, "pcie_gen", out);
}

API int nvmlDeviceGetCurrPcieLinkWidth(void *handle, unsigned *out)
{
    return get_unsigned("nvmlDeviceGetCurrPcieLinkWidth", handle, "pcie_width", out);
}

API int nvmlDeviceGetFieldValues(void *handle, int count, Field *fields)
{
    int gpu, code = enter_gpu("nvmlDeviceGetFieldValues", handle, "fields", &gpu);
    if (code)
        return code;
    if (count <= 0 || !fields)
        return INVALID_ARGUMENT;
    for (int i = 0; i < count; i++) {
        Field *field = &fields[i];
        char key[LINE];
        u64 value = 0, error = 0, type = 3;
        snprintf(key, sizeof key, "nvmlDeviceGetFieldValues %u", field->id);
        log_call(key);
        snprintf(key, sizeof key, "field.%u", field->id);
        int there = gpu_number(gpu, key, &value);
        snprintf(key, sizeof key, "error.field.%u", field->id);
        gpu_number(gpu, key, &error);
        snprintf(key, sizeof key, "field_type.%u", field->id);
        gpu_number(gpu, key, &type);
        field->code = error ? (int)error : there ? SUCCESS : NOT_SUPPORTED;
        if (field->code != SUCCESS)
            continue;
        field->type = (int)type;
        field->timestamp = (long long)time(NULL) * 1000000;
        field->value.ull = value;
        if (type == 0)
            field->value.d = (double)value;
    }
    return SUCCESS;
}

/* One compute process by its place in the file; 0 after the last. */
static int process_at(int gpu, int place, Process *out)
{
    char key[LINE], value[LINE], used[LINE];
    snprintf(key, sizeof key, "%d.proc", gpu);
    if (!find("", key, place, value) || sscanf(value, "%u %s", &out->pid, used) != 2)
        return 0;
    out->used = strcmp(used, "na") == 0 ? ~0ULL : strtoull(used, NULL, 0);
    out->instance = out->compute = 0xffffffffu;
    return 1;
}

static int processes(const char *call, void *handle, unsigned *count, void *out, int v1)
{
    int gpu, code = enter_gpu(call, handle, "processes", &gpu);
    if (code)
        return code;
    Process process;
    unsigned there = 0;
    while (process_at(gpu, (int)there, &process))
        there++;
    unsigned room = *count;
    *count = there;
    if (there > room)
        return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < there && out; i++) {
        process_at(gpu, (int)i, &process);
        if (v1)
            ((ProcessV1 *)out)[i] = (ProcessV1){process.pid, process.used};
        else
            ((Process *)out)[i] = process;
    }
    return SUCCESS;
}

API int nvmlDeviceGetComputeRunningProcesses(void *handle, unsigned *count, ProcessV1 *out)
{
    return processes("nvmlDeviceGetComputeRunningProcesses", handle, count, out, 1);
}

API int nvmlDeviceGetComputeRunningProcesses_v2(void *handle, unsigned *count, Process *out)
{
    return processes("nvmlDeviceGetComputeRunningProcesses_v2", handle, count, out, 0);
}

#ifndef QTOP_FAKE_OLD

API int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, Process *out)
{
    return processes("nvmlDeviceGetComputeRunningProcesses_v3", handle, count, out, 0);
}

API int nvmlDeviceGetMemoryInfo_v2(void *handle, MemoryV2 *out)
{
    int gpu, code = enter_gpu("nvmlDeviceGetMemoryInfo_v2", handle, "memory_v2", &gpu);
    if (code)
        return code;
    return out->version == (sizeof *out | 2u << 24) ? memory_of(gpu, out) : VERSION_MISMATCH;
}

API int nvmlDeviceGetTemperatureV(void *handle, TemperatureV1 *out)
{
    if (out->version != (sizeof *out | 1u << 24))
        return VERSION_MISMATCH;
    unsigned value;
    int code = get_unsigned("nvmlDeviceGetTemperatureV", handle, "temp", &value);
    if (code == SUCCESS)
        out->temperature = (int)value;
    return code;
}

API int nvmlDeviceGetCurrentClocksEventReasons(void *handle, u64 *out)
{
    return get_u64("nvmlDeviceGetCurrentClocksEventReasons", handle, "reasons", out);
}

API int nvmlDeviceGetSupportedClocksEventReasons(void *handle, u64 *out)
{
    return get_u64("nvmlDeviceGetSupportedClocksEventReasons", handle, "reasons_supported", out);
}

#endif

/* Power limit and locked clocks. */

API int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *out)
{
    return get_unsigned("nvmlDeviceGetEnforcedPowerLimit", handle, "power_limit", out);
}

API int nvmlDeviceGetPowerManagementLimit(void *handle, unsigned *out)
{
    return get_unsigned("nvmlDeviceGetPowerManagementLimit", handle, "power_limit", out);
}

API int nvmlDeviceGetPowerManagementDefaultLimit(void *handle, unsigned *out)
{
    return get_unsigned("nvmlDeviceGetPowerManagementDefaultLimit", handle, "power_limit_default", out);
}

API int nvmlDeviceGetPowerManagementLimitConstraints(void *handle, unsigned *low, unsigned *high)
{
    u64 first, last;
    int gpu, code = enter_gpu("nvmlDeviceGetPowerManagementLimitConstraints", handle, "constraints", &gpu);
    if (code)
        return code;
    if (!gpu_number(gpu, "power_limit_min", &first) || !gpu_number(gpu, "power_limit_max", &last))
        return NOT_SUPPORTED;
    *low = (unsigned)first;
    *high = (unsigned)last;
    return SUCCESS;
}

/* Put "GPU.name value" in FILE.state in place of what it had for that key; a NULL value takes it out. */
static int state(int gpu, const char *name, const char *value)
{
    char path[LINE], fresh[LINE], guard[LINE], line[LINE], key[LINE];
    path_of(path, ".state");
    path_of(fresh, ".state.new");
    path_of(guard, ".state.lock");
    snprintf(key, sizeof key, "%d.%s ", gpu, name);
    int lock = open(guard, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    FILE *out = lock >= 0 && flock(lock, LOCK_EX) == 0 ? fopen(fresh, "we") : NULL;
    if (!out) {
        if (lock >= 0)
            close(lock);
        return UNKNOWN;
    }
    FILE *in = fopen(path, "re");
    while (in && fgets(line, sizeof line, in))
        if (strncmp(line, key, strlen(key)) != 0)
            fputs(line, out);
    if (in)
        fclose(in);
    if (value)
        fprintf(out, "%s%s\n", key, value);
    int failed = fclose(out) != 0 || rename(fresh, path) != 0;
    close(lock);
    return failed ? UNKNOWN : SUCCESS;
}

API int nvmlDeviceSetPowerManagementLimit(void *handle, unsigned limit)
{
    char value[LINE];
    u64 low, high;
    int gpu, code = enter_gpu("nvmlDeviceSetPowerManagementLimit", handle, "power_set", &gpu);
    if (code)
        return code;
    if (!gpu_number(gpu, "power_limit_min", &low) || !gpu_number(gpu, "power_limit_max", &high))
        return NOT_SUPPORTED;
    if (limit < low || limit > high)
        return INVALID_ARGUMENT;
    snprintf(value, sizeof value, "%u", limit);
    return state(gpu, "power_limit", value);
}

API int nvmlDeviceSetGpuLockedClocks(void *handle, unsigned low, unsigned high)
{
    char value[LINE];
    int gpu, code = enter_gpu("nvmlDeviceSetGpuLockedClocks", handle, "locked_clocks", &gpu);
    if (code)
        return code;
    if (low > high)
        return INVALID_ARGUMENT;
    snprintf(value, sizeof value, "%u %u", low, high);
    return state(gpu, "locked_clocks", value);
}

API int nvmlDeviceResetGpuLockedClocks(void *handle)
{
    int gpu, code = enter_gpu("nvmlDeviceResetGpuLockedClocks", handle, "locked_clocks", &gpu);
    return code ? code : state(gpu, "locked_clocks", NULL);
}
