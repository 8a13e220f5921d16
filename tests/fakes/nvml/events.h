/* Event sets: Xid errors. */

enum { XID_CRITICAL = 8, MAX_TOLD = 64 };

typedef struct { int listens[MAX_GPUS], told[MAX_GPUS][MAX_TOLD], many[MAX_GPUS]; } EventSet;
typedef struct { void *device; u64 type, data; unsigned instance, compute; } EventData;
_Static_assert(sizeof(EventData) == 32, "ABI");

API int nvmlEventSetCreate(EventSet **set)
{
    int code = enter("nvmlEventSetCreate");
    if (code == SUCCESS && !(*set = calloc(1, sizeof **set)))
        code = UNKNOWN;
    return code;
}

API int nvmlEventSetFree(EventSet *set)
{
    log_call("nvmlEventSetFree");
    free(set);
    return SUCCESS;
}

API int nvmlDeviceGetSupportedEventTypes(void *handle, u64 *out)
{
    int gpu, code = enter_gpu("nvmlDeviceGetSupportedEventTypes", handle, "events", &gpu);
    *out = code ? 0 : XID_CRITICAL;
    return code;
}

API int nvmlDeviceRegisterEvents(void *handle, u64 types, EventSet *set)
{
    int gpu, code = enter_gpu("nvmlDeviceRegisterEvents", handle, "events", &gpu);
    if (code == SUCCESS && types & ~(u64)XID_CRITICAL)
        code = NOT_SUPPORTED;
    if (code == SUCCESS)
        set->listens[gpu] = 1;
    return code;
}

/* The next Xid that this set has not been told of; 0 if there is none. */
static int untold(EventSet *set, EventData *data)
{
    char key[LINE], raw[LINE];
    for (int gpu = 0; gpu < MAX_GPUS; gpu++) {
        if (!set->listens[gpu])
            continue;
        snprintf(key, sizeof key, "%d.xid", gpu);
        for (int place = 0; find(key, place, raw); place++) {
            int xid = atoi(raw), known = 0;
            for (int i = 0; i < set->many[gpu]; i++)
                known |= set->told[gpu][i] == xid;
            if (known || set->many[gpu] == MAX_TOLD)
                continue;
            set->told[gpu][set->many[gpu]++] = xid;
            *data = (EventData){&devices[gpu], XID_CRITICAL, (u64)xid, 0xffffffffu, 0xffffffffu};
            return 1;
        }
    }
    return 0;
}

/* Not logged: it is called all the time. Looks every 250 ms: a driver sleeps until something happens, and twenty looks a
   second would be a twentieth of what a benchmark finds. */
API int nvmlEventSetWait_v2(EventSet *set, EventData *data, unsigned milliseconds)
{
    struct timespec step = {0, 250000000};
    for (unsigned waited = 0;; waited += 250) {
        u64 code = SUCCESS;
        refresh_all();
        if (users <= 0)
            return UNINITIALIZED;
        if (number("call_error", &code) && code)
            return (int)code;
        if (untold(set, data))
            return SUCCESS;
        if (waited >= milliseconds)
            return 10; /* TIMEOUT */
        nanosleep(&step, NULL);
    }
}
