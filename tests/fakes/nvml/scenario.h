/* The scenario: a text file of lines, read again when it changes, whose values may move with time. */

#define MAX_LINES 4096
#define BUCKETS 4096
#define ANY (-1)

typedef struct {
    char key[64], value[192];
    double from, to; /* seconds of the scenario in which the line counts */
    int windowed, next;
} Line;

typedef struct {
    const char *suffix;
    struct timespec changed;
    off_t size;
    ino_t inode;
    int count, bucket[BUCKETS];
    Line lines[MAX_LINES];
} File;

static File scenario = {.suffix = "", .inode = 1}, written = {.suffix = ".state", .inode = 1};
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void)
{
    memset(scenario.bucket, -1, sizeof scenario.bucket);
    memset(written.bucket, -1, sizeof written.bucket);
}

static void path_of(char *out, const char *suffix)
{
    const char *path = getenv("QTOP_FAKE_NVML");
    snprintf(out, LINE, "%s%s", path ? path : "/nonexistent", suffix);
}

static unsigned hash_of(const char *key)
{
    unsigned hash = 2166136261u;
    while (*key)
        hash = (hash ^ (unsigned char)*key++) * 16777619u;
    return hash % BUCKETS;
}

static void parse(File *file, char *text)
{
    Line *line = &file->lines[file->count];
    *line = (Line){.from = 0, .to = 1e300};
    if (*text == '@') { /* @FROM-TO key value */
        char *end;
        line->windowed = 1;
        line->from = strtod(text + 1, &end);
        if (*end == '-' && end[1] != ' ')
            line->to = strtod(end + 1, &end);
        else if (*end == '-')
            end++;
        text = end + strspn(end, " ");
    }
    char *space = strchr(text, ' ');
    if (!space || *text == '#' || (size_t)(space - text) >= sizeof line->key)
        return;
    *space = 0;
    strcpy(line->key, text);
    snprintf(line->value, sizeof line->value, "%s", space + 1);
    line->next = -1;
    int *place = &file->bucket[hash_of(line->key)];
    while (*place >= 0) /* at the end: lines of one key keep their order */
        place = &file->lines[*place].next;
    *place = file->count++;
}

static void refresh(File *file)
{
    char path[LINE], text[LINE];
    struct stat now;
    path_of(path, file->suffix);
    if (stat(path, &now) != 0)
        memset(&now, 0, sizeof now);
    if (now.st_ino == file->inode && now.st_size == file->size && now.st_mtim.tv_sec == file->changed.tv_sec &&
        now.st_mtim.tv_nsec == file->changed.tv_nsec)
        return;
    file->inode = now.st_ino;
    file->size = now.st_size;
    file->changed = now.st_mtim;
    file->count = 0;
    memset(file->bucket, -1, sizeof file->bucket);
    FILE *in = fopen(path, "re");
    while (in && file->count < MAX_LINES && fgets(text, sizeof text, in)) {
        text[strcspn(text, "\r\n")] = 0;
        parse(file, text);
    }
    if (in)
        fclose(in);
}

/* Look at both files again; every call of the library does so once. */
static void refresh_all(void)
{
    pthread_mutex_lock(&guard);
    refresh(&scenario);
    refresh(&written);
    pthread_mutex_unlock(&guard);
}

/* The line of a key that counts at t: of several the first with a time, else the first; or that at a place. */
static const Line *lookup(const File *file, const char *key, int place, double t)
{
    const Line *plain = NULL;
    for (int at = file->bucket[hash_of(key)]; at >= 0; at = file->lines[at].next) {
        const Line *line = &file->lines[at];
        if (strcmp(line->key, key) != 0 || t < line->from || t >= line->to)
            continue;
        if (place == 0 || (place == ANY && line->windowed))
            return line;
        if (place > 0)
            place--;
        else if (!plain)
            plain = line;
    }
    return plain;
}

/* Seconds of the scenario: what the line "clock" says, else since the file was written. */
static double scenario_time(void)
{
    struct timespec now;
    pthread_mutex_lock(&guard);
    const Line *fixed = lookup(&scenario, "clock", ANY, 0);
    double t = fixed ? strtod(fixed->value, NULL) : 0;
    clock_gettime(CLOCK_REALTIME, &now);
    if (!fixed)
        t = (double)(now.tv_sec - scenario.changed.tv_sec) + (double)(now.tv_nsec - scenario.changed.tv_nsec) / 1e9;
    pthread_mutex_unlock(&guard);
    return t;
}

/* What a value is at t: a number, or one that moves with time. */
static double value_at(const char *raw, double t)
{
    double a, b, c;
    if (sscanf(raw, "ramp %lf %lf", &a, &b) == 2)
        return a + b * t;
    if (sscanf(raw, "wave %lf %lf %lf", &a, &b, &c) == 3 && c > 0) { /* a triangle: low at 0, high half a period later */
        double phase = t / c - (double)(long long)(t / c);
        return a + (b - a) * (phase < 0.5 ? 2 * phase : 2 - 2 * phase);
    }
    if (strncmp(raw, "steps ", 6) == 0) { /* steps SECONDS first second …, again and again */
        double values[64];
        int n = 0;
        char *end;
        double each = strtod(raw + 6, &end);
        for (const char *at = end; n < 64 && *at; at = end) {
            values[n] = strtod(at, &end);
            if (end == at)
                break;
            n++;
        }
        return n && each > 0 ? values[(long)(t / each + 1e-6) % n] : 0;
    }
    return strtod(raw, NULL);
}

/* The value of a key, as text; 0 if there is none. ANY: what setters wrote goes first. */
static int find(const char *key, int place, char *value)
{
    double t = scenario_time();
    pthread_mutex_lock(&guard);
    const Line *line = place == ANY ? lookup(&written, key, ANY, t) : NULL;
    if (!line)
        line = lookup(&scenario, key, place, t);
    if (line)
        snprintf(value, LINE, "%s", line->value);
    pthread_mutex_unlock(&guard);
    return line != NULL;
}

static int text(const char *key, char *value) { return find(key, ANY, value); }

static int is_plain(const char *raw) { return strspn(raw, "0123456789abcdefABCDEFxX-") == strlen(raw); }

/* A number at t; plain integers keep all their 64 bits. */
static u64 number_at(const char *raw, double t)
{
    if (is_plain(raw))
        return strtoull(raw, NULL, 0);
    double value = value_at(raw, t);
    return value < 0 ? (u64)(long long)value : (u64)value;
}

static int number(const char *key, u64 *value)
{
    char raw[LINE];
    if (!text(key, raw))
        return 0;
    *value = number_at(raw, scenario_time());
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
